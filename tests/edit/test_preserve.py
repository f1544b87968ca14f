"""Pixels outside the edited region against closed forms and SSIM written out window by window."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from goodeye.edit.preserve import pooled, preserved, preserved_of, ssim_map
from goodeye.errors import BadInput


def noise(seed, size=24):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def box(size=24):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[6:14, 4:12] = True
    return mask


def test_ssim_is_that_of_wang_et_al():
    a, b = noise(1), (0.7 * noise(1) + 0.3 * noise(2)).clamp(0, 1)
    found = ssim_map(a, b)
    bell = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    bell /= bell.sum()
    for channel in range(3):
        x, y = a[channel].double().numpy(), b[channel].double().numpy()

        def mean(z):
            rows = np.apply_along_axis(np.convolve, 0, z, bell, "valid")
            return np.apply_along_axis(np.convolve, 1, rows, bell, "valid")

        mx, my = mean(x), mean(y)
        top = (2 * mx * my + 1e-4) * (2 * (mean(x * y) - mx * my) + 9e-4)
        below = (mx**2 + my**2 + 1e-4) * (mean(x * x) - mx**2 + mean(y * y) - my**2 + 9e-4)
        assert np.allclose(found[channel], top / below, atol=1e-9)


def test_a_constant_shift_has_closed_forms():
    a, b = torch.full((3, 24, 24), 0.5), torch.full((3, 24, 24), 0.6)
    found = preserved(a, b, torch.zeros(24, 24, dtype=torch.bool))
    assert found.l1 == pytest.approx(0.1, abs=1e-6) and found.psnr == pytest.approx(20, abs=1e-4)
    assert found.ssim == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4), abs=1e-6)
    assert found.share == 1


def test_what_happens_inside_the_mask_does_not_count():
    a, mask = noise(1), box()
    same = preserved(a, torch.where(mask, noise(2), a), mask)
    assert (same.l1, same.mse, same.psnr) == (0, 0, math.inf) and same.ssim == pytest.approx(1)
    assert same.share == pytest.approx(1 - 64 / 576)
    b = a.clone()
    b[:, 0, 0] = 1 - b[:, 0, 0].round()  # one pixel outside
    moved = preserved(a, torch.where(mask, noise(3), b), mask)
    assert moved.l1 == pytest.approx(float((a - b).abs().sum()) / (3 * 512))
    assert preserved(a, b, mask) == moved


def test_pictures_are_brought_to_the_originals_size():
    original, mask = Image.new("RGB", (32, 24), (10, 20, 30)), Image.new("L", (16, 12))
    found = preserved_of(original, Image.new("RGBA", (64, 48), (10, 20, 30, 255)), mask)
    assert found.l1 == 0 and found.share == 1
    with pytest.raises(BadInput, match="nothing outside"):
        preserved_of(original, original, Image.new("L", (16, 12), 255))


def test_pooling_takes_the_mean_squared_error():
    nothing = torch.zeros(24, 24, dtype=torch.bool)
    a = torch.full((3, 24, 24), 0.5)
    some = [preserved(a, a + by, nothing) for by in (0.0, 0.1, 0.2)]
    found = pooled(some)
    assert found["psnr"] == pytest.approx(-10 * math.log10((0.01 + 0.04) / 3), abs=1e-4)
    assert found["l1"] == pytest.approx(0.1, abs=1e-6) and pooled(some[:1])["psnr"] is None


def test_where_only_the_rim_is_outside_there_is_no_ssim_and_the_others_mean_stands():
    """SSIM has a value where a whole window fits: five pixels from the edge on."""
    rim = torch.zeros(24, 24, dtype=torch.bool)
    rim[5:-5, 5:-5] = True
    one, other = preserved(noise(1), noise(2), rim), preserved(noise(1), noise(2), box())
    assert math.isnan(one.ssim) and one.l1 > 0
    assert pooled([one, other])["ssim"] == other.ssim and pooled([one])["ssim"] is None
    assert pooled([one, other])["l1"] == pytest.approx((one.l1 + other.l1) / 2)
