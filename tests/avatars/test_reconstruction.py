"""The loss of reconstruction prefers a sharp picture to a blurred one."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lreorg_fast.avatars.recipe.reconstruction import detail_error


def picture() -> torch.Tensor:
    made = torch.zeros(1, 3, 64, 64)
    made[:, :, 30:32] = 1.0  # thin lines across the face, as of glasses
    made[:, :, :, 20:22] = 1.0
    return made


def test_flat_errors_cost_nothing_and_lost_lines_do() -> None:
    real = picture()
    assert float(detail_error(real, real)) == 0.0
    assert float(detail_error(real, real + 0.3)) < 1e-5
    blurred = F.avg_pool2d(F.pad(real, (3, 3, 3, 3), mode="replicate"), 7, stride=1)
    assert float(detail_error(real, blurred)) > 0.05


def test_the_middle_of_the_face_counts_most() -> None:
    real = torch.zeros(1, 3, 64, 64)
    centre, corner = real.clone(), real.clone()
    centre[:, :, 34:38, 30:34] = 1.0
    corner[:, :, 2:6, 2:6] = 1.0
    assert float(detail_error(real, centre)) > 3 * float(detail_error(real, corner))


def test_it_works_at_other_sizes_and_has_gradients() -> None:
    back = torch.zeros(2, 3, 32, 32, requires_grad=True)
    detail_error(torch.randn(2, 3, 32, 32), back).backward()
    assert back.grad is not None
    assert bool(back.grad.any())
