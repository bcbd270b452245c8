"""Deterministic parameters and inputs, made from names alone (numpy only).

One normal stream per name:
    rng = Generator(PCG64(crc32(utf-8 bytes of NAME)))
    x   = rng.standard_normal(shape)            # float64, C order
    x   = float32(x)                            # rounded once, then all arithmetic is float32
The constants below (scale, 0.1, ...) are computed in float64 and rounded to float32
before they multiply.  NAME is the state-dict key as the module itself reports it: for a
checkpoint that nests modules behind a prefix (``encoder.``, ``decoder.``, ``model.``,
``features.``), the prefix is stripped first unless a fixture's JSON says otherwise.

rules, first match wins; `last` is the last dotted part of the key, `head` is the rest
  1  integer or bool entry, or last in {kernel, resample_filter, logit_scale, attn_mask}
     -> left as the module made it (None here)
  2  last == running_var  -> 1 + 0.1*|x|            last == running_mean -> 0.1*x
  3  key ends in 'noise.weight' or 'noise_strength' -> 0.1 + 0.1*|x|
  4  key starts with 'noises.noise_' or last in {noise_const, const} or key == 'input.input'
     -> x
  5  last in {w_avg, latent_avg}                    -> 0.5*x
  6  last contains 'bias':
       key ends in 'modulation.bias' or 'affine.bias' -> 1 + 0.1*x
       mapping layer (see below)                      -> 10*x     (0.1/lr_mul, lr_mul 0.01)
       otherwise, whatever the rank                   -> 0.1*x
  7  rank >= 2:
       mapping layer                                  -> 100*x    (1/lr_mul)
       equalized-lr layer                             -> x
       family 'relu'                                  -> x * sqrt(2) / sqrt(prod(shape[1:]))
       family 'inv'                                   -> x * 0.3 / sqrt(prod(shape[1:]))
       otherwise                                      -> x / sqrt(prod(shape[1:]))
  8  rank 1, last == 'weight' and head + '.bias' is also a key (a norm layer) -> 1 + 0.1*x
  9  rank 1, last == 'weight' and no such bias (a PReLU slope)               -> 0.25 + 0.1*x
 10  anything else (rank 0 or 1)                      -> 0.1*x

mapping layer    (family 'stylegan' only): key matches  style.<n>.weight|bias  or
                 mapping.fc<n>.weight|bias
equalized layer  family 'stylegan': every key of rank >= 2
                 family 'e4e':      keys containing '.linear.' that begin with 'styles.'
                 family 'plain':    none          families 'relu', 'inv': none
"""

import re
import zlib

import numpy as np

F = np.float32
_KEEP = ("kernel", "resample_filter", "logit_scale", "attn_mask")
_MAP = re.compile(r"(^|\.)(style\.\d+|mapping\.fc\d+)\.(weight|bias)$")


def _rng(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))


def normal(name, shape):
    """Standard normals of `shape`, float32, decided by `name`."""
    return np.asarray(_rng(name).standard_normal(tuple(shape))).astype(F).reshape(tuple(shape))


def uniform(name, shape, lo=0.0, hi=1.0):
    """Uniform in [lo, hi): float64 draw, lo + (hi-lo)*u in float64, rounded to float32."""
    u = np.asarray(_rng(name).random(tuple(shape)))
    return (lo + (hi - lo) * u).astype(F).reshape(tuple(shape))


def image(name, n, h, w):
    """An [n,3,h,w] input in [-1, 1): uniform noise."""
    return uniform(name, (n, 3, h, w), -1.0, 1.0)


def photo(name, h, w):
    """A ``[h, w, 3]`` uint8 picture with structure at several scales; integer arithmetic only.

    Cells of 8x8 pixels, then five times the mean with its neighbours above, left and both (rolled
    around, ``// 4``), then a fine noise truncated toward zero; clipped.
    """
    cells = uniform(name, (-(-h // 8), -(-w // 8), 3), 0, 256).astype(np.uint8)
    picture = cells.repeat(8, axis=0).repeat(8, axis=1)[:h, :w].astype(np.int32)
    for _ in range(5):
        above = np.roll(picture, 1, axis=0)
        left, both = np.roll(picture, 1, axis=1), np.roll(above, 1, axis=1)
        picture = (picture + above + left + both) // 4
    picture = picture + uniform(name + ".fine", (h, w, 3), -12, 12).astype(np.int32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def value(key, shape, keys, family="plain", floating=True):
    """The array for one entry, or None where the module's own value stays."""
    head, _, last = key.rpartition(".")
    if not floating or last in _KEEP:
        return None
    shape = tuple(int(s) for s in shape)
    x = normal(key, shape)
    if last == "running_var":
        return (F(1) + F(0.1) * np.abs(x)).astype(F)
    if last == "running_mean":
        return (F(0.1) * x).astype(F)
    if key.endswith("noise.weight") or last == "noise_strength":
        return np.asarray(F(0.1) + F(0.1) * np.abs(x)).astype(F).reshape(shape)
    if key.startswith("noises.noise_") or last in ("noise_const", "const") or key == "input.input":
        return x
    if last in ("w_avg", "latent_avg"):
        return (F(0.5) * x).astype(F)
    mapping = family == "stylegan" and _MAP.search(key) is not None
    if "bias" in last:
        if key.endswith(("modulation.bias", "affine.bias")):
            return (F(1) + F(0.1) * x).astype(F)
        return (F(10.0 if mapping else 0.1) * x).astype(F)
    if len(shape) >= 2:
        if mapping:
            return (F(100.0) * x).astype(F)
        eq = family == "stylegan" or (
            family == "e4e" and key.startswith("styles.") and ".linear." in key
        )
        if eq:
            return x
        gain = {"relu": np.sqrt(2.0), "inv": 0.3}.get(family, 1.0)
        return (F(gain / np.sqrt(float(np.prod(shape[1:])))) * x).astype(F)
    if len(shape) == 1 and last == "weight":
        if head + ".bias" in keys:
            return (F(1) + F(0.1) * x).astype(F)
        return (F(0.25) + F(0.1) * x).astype(F)
    return np.asarray(F(0.1) * x).astype(F).reshape(shape)
