"""The one table of tolerances: how far a result may be from the truth, per operation and dtype.

Absolute limits on the largest difference, for inputs of about unit variance, unless the name says
ratio. Each has its reason; a limit without one is a bug that passes its test.
"""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    limit: float
    reason: str


TOLERANCES: dict[tuple[str, str], Tolerance] = {
    ("cdfnet golden", "float64"): Tolerance(
        1e-9, "the limit that spec/cdfnet.md sets; measured 1e-14 on both goldens"
    ),
    ("cdfnet fold", "float64"): Tolerance(
        1e-9, "exact algebra, other order of sums; measured 4e-13 on the default recurrence"
    ),
    ("cdfnet inverse", "float64"): Tolerance(
        1e-9, "rounding of adds and multiplies, amplified by at most e^clamp per coupling"
    ),
    ("cdfnet inverse", "float32"): Tolerance(
        1e-4, "eps 6e-8 times about 1e2 roundings; measured 3e-6 at 16 blocks"
    ),
    ("cdfnet engine", "float64"): Tolerance(
        1e-9, "the reference network itself, in the plan's order of passes"
    ),
    ("cdfnet engine", "float32"): Tolerance(
        2e-4, "float32 sums over 512 to 640 terms through 14 passes; measured 2e-5 on the base size"
    ),
    # Round trips and ratios by what products read: the streams themselves, or copies rounded to
    # bfloat16 or int8. Measured on the base golden.
    ("cdfnet exact activations round trip", "float32"): Tolerance(
        2e-5, "only the streams' own float32 adds and multiplies; measured 3e-6"
    ),
    ("cdfnet exact activations round trip", "float64"): Tolerance(
        1e-9, "as the inverse of the reference network, which it is"
    ),
    ("cdfnet exact activations round trip", "bfloat16"): Tolerance(
        2e-5, "as float32: both directions see the same rounded weights; measured 3e-6"
    ),
    ("cdfnet exact activations round trip", "float16"): Tolerance(
        2e-5, "as float32: both directions see the same rounded weights; measured 3e-6"
    ),
    ("cdfnet exact activations round trip", "int8"): Tolerance(
        2e-5, "as float32: both directions see the same rounded weights; measured 3e-6"
    ),
    ("cdfnet rounded activations round trip", "bfloat16"): Tolerance(
        2e-3,
        "a stream's last bit can flip the rounding of an activation, which changes a subnet's "
        "input by 2^-9 of itself; measured 5e-4",
    ),
    ("cdfnet rounded activations round trip", "float16"): Tolerance(
        5e-4, "an eighth of bfloat16's steps, and room: not measured yet, needs a GPU"
    ),
    ("cdfnet rounded activations round trip", "int8"): Tolerance(
        5e-3, "as bfloat16, but steps of 1/127 of the largest of 32 activations; measured 1.2e-3"
    ),
    ("cdfnet rounded activations round trip rms", "bfloat16"): Tolerance(
        1e-4, "few activations lie so near a boundary that they flip; measured 3.4e-5"
    ),
    ("cdfnet rounded activations round trip rms", "int8"): Tolerance(
        4e-4, "few activations lie so near a boundary that they flip; measured 1e-4"
    ),
    ("cdfnet exact activations ratio to plain bfloat16 PyTorch", "bfloat16"): Tolerance(
        0.008, "only weights are rounded, once, while PyTorch rounds every sum; measured 0.0053"
    ),
    ("cdfnet exact activations ratio to plain bfloat16 PyTorch", "float16"): Tolerance(
        0.001, "an eighth of bfloat16's: three more bits of each weight; measured 0.00066"
    ),
    ("cdfnet exact activations ratio to plain bfloat16 PyTorch", "int8"): Tolerance(
        0.035, "weights in 255 steps of one scale per output; measured 0.023"
    ),
    ("cdfnet rounded activations ratio to plain bfloat16 PyTorch", "bfloat16"): Tolerance(
        0.016, "activations rounded as the weights are: 1.4 to 2 times the error; measured 0.011"
    ),
    ("cdfnet rounded activations ratio to plain bfloat16 PyTorch", "float16"): Tolerance(
        0.002, "an eighth of bfloat16's: three more bits of weights and activations"
    ),
    ("cdfnet rounded activations ratio to plain bfloat16 PyTorch", "int8"): Tolerance(
        0.06, "activations in 255 steps per 32 inputs, beside the weights; measured 0.040"
    ),
    ("recomputed gradient", "float32"): Tolerance(
        1e-5, "relative to the largest entry: streams come back with 1e-6 of error; measured 2e-6"
    ),
    ("recomputed gradient", "bfloat16"): Tolerance(
        3e-2,
        "of all gradients together, by 2-norm: what products read has 8 bits, and single hidden "
        "units change the side of their kink; measured 1.2e-2",
    ),
    ("recomputed gradient", "float16"): Tolerance(3e-3, "as bfloat16, with 11 bits; measured 1e-3"),
    ("recomputed gradient on a GPU", "float32"): Tolerance(
        1e-4,
        "2-norm of each gradient against float64; products are three of tf32 parts, about 2^-21 "
        "each; an estimate, not yet measured",
    ),
    ("triton interpreter", "bfloat16"): Tolerance(
        5e-2,
        "absolute: weights have 8 bits, and the interpreter loses the carry of a rounding that "
        "should have changed the exponent",
    ),
    ("network pass", "float32"): Tolerance(
        3e-6, "relative to the largest value: at most 20 float32 roundings; measured 7e-7"
    ),
    ("network pass", "bfloat16"): Tolerance(
        4e-3, "relative to the largest value: the result is rounded once, half of 2^-8"
    ),
    ("winograd convolution", "bfloat16"): Tolerance(
        8e-3, "RMS error over RMS: inputs and weights are rounded after adding; measured 4.3e-3"
    ),
    ("prepared network", "float32"): Tolerance(
        2e-5, "relative to the largest value, other order of sums; measured 3e-6 at full size"
    ),
    ("prepared network on a GPU", "float32"): Tolerance(
        1e-4, "as above, but cuDNN may take Winograd or Fourier forms for one of two; not measured"
    ),
    ("prepared network ratio to plain bfloat16 PyTorch", "bfloat16"): Tolerance(
        1.2, "RMS errors: fewer roundings between convolutions; measured 0.45 to 0.95"
    ),
    ("prepared network picture", "bfloat16"): Tolerance(
        12.0, "8-bit levels, largest difference at sharp edges of the demo bundle; measured 9"
    ),
    ("published network", "float32"): Tolerance(
        1e-5, "the gate of spec/checkpoints.md, relative to the largest value; measured 3e-6"
    ),
    ("published FID blocks", "float32"): Tolerance(
        3e-5, "the gate of spec/checkpoints.md, relative to the largest value; measured 2e-6"
    ),
    ("frechet distance, full rank", "float64"): Tolerance(
        1e-9, "relative; float64 through decompositions of 64 and 256 dimensions; measured 5e-15"
    ),
    ("frechet distance, rank deficient", "float64"): Tolerance(
        1e-6,
        "relative, the gate of spec/checkpoints.md: the programs differ by 3e-8 themselves, "
        "taking roots of eigenvalues that are rounding errors; measured 6e-8",
    ),
    # Exported files in onnxruntime on the demo bundle, relative to the largest value.
    ("onnx encoder", "float32"): Tolerance(2e-5, "as a prepared network; measured 4e-6"),
    ("onnx encoder", "float16"): Tolerance(
        8e-3, "maps and kernels have 11 bits, through 4 units and 6 convolutions; measured 2.4e-3"
    ),
    ("onnx generator", "float32"): Tolerance(2e-5, "as a prepared network; measured 2e-6"),
    ("onnx generator", "float16"): Tolerance(
        6e-3, "maps and kernels have 11 bits, the picture is summed in float32; measured 1.9e-3"
    ),
    ("onnx cdfnet standard", "float32"): Tolerance(
        2e-5, "as the full size reorganization, against float64; measured 3e-6"
    ),
    ("onnx cdfnet standard", "float16"): Tolerance(
        2e-3, "products read and give 11 bits, streams are float32; measured 3e-4"
    ),
    ("onnx cdfnet plugin", "float32"): Tolerance(2e-5, "as ordinary nodes; measured 3e-6"),
    ("onnx cdfnet plugin", "float16"): Tolerance(
        1e-4, "only matrices are rounded, to 11 bits; measured 1.6e-5"
    ),
    ("onnx cdfnet plugin", "bfloat16"): Tolerance(
        8e-4, "only matrices are rounded, to 8 bits; measured 8.4e-5"
    ),
    ("onnx recognizer", "float32"): Tolerance(
        2e-5, "as a prepared network; the view is two products, not averages; measured 7e-7"
    ),
    ("onnx pipeline", "float32"): Tolerance(
        1e-4, "absolute, of pictures in [-1, 1]: 0.01 levels; measured 9e-6"
    ),
    ("onnx pipeline", "float16"): Tolerance(
        0.04, "absolute, of pictures in [-1, 1], 5 levels at sharp edges; measured 6e-3"
    ),
    ("full size reorganization", "float32"): Tolerance(
        2e-5, "relative to the largest value, through 14 passes; measured 2e-6"
    ),
    ("full size reorganization", "bfloat16"): Tolerance(
        6e-3, "relative to the largest value: weights have 8 bits; measured 1.5e-3"
    ),
    ("full size picture levels", "float32"): Tolerance(
        0.01, "mean of 8-bit levels: few round the other way; measured 4e-4"
    ),
    ("full size picture levels", "bfloat16"): Tolerance(
        1.0, "mean of 8-bit levels, weights of the reorganization have 8 bits; measured 0.26"
    ),
    # Frames in torch against pictures in numpy and Pillow.
    ("mask", "float32"): Tolerance(
        1e-5, "coordinates rounded to float32 after other orders of float64; measured 1.2e-6"
    ),
    ("paste largest", "uint8"): Tolerance(
        4.0, "levels: Pillow samples with 8-bit weights and rounds between steps; measured 2"
    ),
    ("paste mean", "uint8"): Tolerance(0.4, "levels, as above; measured 0.17"),
    ("cut largest", "uint8"): Tolerance(
        16.0, "levels: Lanczos in one, bicubic in the other where a face is reduced; measured 8"
    ),
    ("cut mean", "uint8"): Tolerance(4.0, "levels, as above; measured 1.9"),
    ("detector decode, pixels", "float32"): Tolerance(
        2e-3, "OpenCV decodes in float32, and goldens have 3 decimals; measured 6e-4"
    ),
}


def tolerance(operation: str, dtype: str) -> float:
    """The limit of one entry; a KeyError names an entry that is missing."""
    return TOLERANCES[operation, dtype].limit
