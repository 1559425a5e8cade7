"""ES-ResNeXt-fbsp, the audio network of AudioCLIP (arXiv 2104.11587): a learnt spectrogram and a ResNeXt-50.

Shapes: B sounds, n samples of a sound, F frames, K = 1025 frequencies, H = 341 of them in each of three
bands, D = 1024 features. The names of the parameters are those of the public weights below `audio.`.
Tensors are float32 without autocast.

Written from the papers' description; it was not checked against the public weights.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

WIDTH, RATE, SAMPLES = 1024, 44_100, 220_500
FFT, WINDOW, HOP = 2048, 1654, 561
BANDS = 3  # the spectrogram's lower, middle and upper third are the three channels of the picture
_SILENCE = 1e-18  # what zero power counts as before the logarithm
_TINY = 1e-8


class FrequencyBSpline(nn.Module):
    """A linear transform to frequencies, each with a B-spline window of its own (arXiv 2104.11587, 3.2).

    Row k is sqrt(fb)·sinc(fb·t / m)^m · exp(−i·fc·t) over t in [−π, π], divided by sqrt(FFT): order m,
    bandwidth fb and centre fc are learnt. With m = 0 and fb = 1 it is a discrete Fourier transform.
    """

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(frequencies))
        self.fb = nn.Parameter(torch.ones(frequencies))
        self.fc = nn.Parameter(torch.arange(frequencies, dtype=torch.float32))

    def weights(self) -> torch.Tensor:
        """(K, FFT) complex64."""
        # In double precision: phases reach thousands, and quiet bins are what is left where loud ones cancel.
        order, band, centre = (value.double()[:, None] for value in (self.m, self.fb, self.fc))
        time = math.pi * torch.linspace(-1, 1, FFT, device=order.device, dtype=order.dtype) + _TINY
        argument = band * time / (order + _TINY)
        sinc = torch.where(argument == 0, torch.ones_like(argument), argument.sin() / argument)
        # A negative number to a real power turns by π in the complex plane for each unit of the power.
        window = torch.polar(sinc.abs() ** order, order * math.pi * (sinc < 0))
        turning = torch.complex((centre * time).cos(), -(centre * time).sin())
        return (band.sqrt() * window * turning / math.sqrt(FFT)).to(torch.complex64)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, F, FFT) → (B, K, F) power."""
        weights = self.weights()
        real, imaginary = frames @ weights.real.T, frames @ weights.imag.T
        return (real**2 + imaginary**2).transpose(1, 2)


class Gate(nn.Module):
    """How much of each place and channel of a stage's output passes, seen from the stage's input."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.conv_point = nn.Conv2d(channels, out, 1)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """`after` (B, out, H, W) times the gate that `before` (B, channels, H′, W′) opens, 0 to 1."""
        seen = functional.adaptive_max_pool2d(before, after.shape[-2:])
        return after * self.bn(self.conv_point(self.conv_depth(seen))).sigmoid()


class ESResNeXt(ResNet):
    """Sounds of 220,500 samples at 44.1 kHz, in ±1, to embeddings (not normalised) and a map of features."""

    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=WIDTH, groups=32, width_per_group=4)
        self.fbsp = FrequencyBSpline(FFT // 2 + 1)
        self.register_buffer("window", torch.zeros(WINDOW))
        self.att1 = Gate(64, 256, (3, 1))
        self.att2 = Gate(256, 512, (1, 5))
        self.att3 = Gate(512, 1024, (3, 1))
        self.att4 = Gate(1024, 2048, (1, 5))
        self.att5 = Gate(2048, 2048, (3, 5))

    def picture(self, sounds: torch.Tensor) -> torch.Tensor:
        """(B, n) → (B, 3, H, F): power in decibels, a third of the frequencies in each channel."""
        count = 1 + max(0, math.ceil((sounds.shape[1] - WINDOW) / HOP))
        missing = (count - 1) * HOP + WINDOW - sounds.shape[1]
        padded = functional.pad(sounds, (missing // 2, missing - missing // 2))
        frames = padded.unfold(1, WINDOW, HOP) * self.window
        short = FFT - WINDOW
        power = self.fbsp(functional.pad(frames, (short // 2, short - short // 2)))
        height = power.shape[1] // BANDS
        split = power[:, : BANDS * height].unflatten(1, (BANDS, height))
        return 10 * torch.where(split > 0, split, torch.full_like(split, _SILENCE)).log10()

    def features(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, F) → the embedding (B, D), and the last stage's map (B, 2048, 11, 13) for 5 seconds."""
        seen = self.maxpool(self.relu(self.bn1(self.conv1(picture))))
        stages = ((self.layer1, self.att1), (self.layer2, self.att2), (self.layer3, self.att3))
        for stage, gate in (*stages, (self.layer4, self.att4)):
            seen = gate(seen, stage(seen))
        pooled = self.att5(seen, self.avgpool(seen))
        return self.fc(pooled.flatten(1)), seen
