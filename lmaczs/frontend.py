"""From a waveform to the input of CLAP's audio encoder, and back.

`FrontEnd` is a deterministic, batched reimplementation in torch of Hugging Face's
``ClapFeatureExtractor``, differentiable in the waveform, the complex STFT and a mask
on either. `FrontEnd.input_tf` is the InputTf of L-MAC and LMAC-ZS: from a masked
spectrogram to the encoder's input, in three domains.

The grids
---------
clip grid
    STFT of the clip itself, ``clip_frames(samples)`` frames: that of masks,
    explanations and residuals.
input grid
    STFT of the clip after `fit_length`, always ``n_frames`` frames: that of the
    encoder. Under ``repeatpad`` a short clip is repeated on it, and `tile_mask`
    repeats the clip's mask in the same places.

Bins of the STFT that no mel band covers, below and above all of them, are silence to
the model. Masks are 0 there, in every domain: what the model cannot hear is no part of
an explanation. Kept with the nearest band, a loud tone below the bands is switched on
and off by the mask, and the clicks are heard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapFeatureExtractor
from transformers.audio_utils import hertz_to_mel

from lmaczs.audio.scales import power_to_db
from lmaczs.utils.errors import InputError

Domain = Literal["mel", "stft", "waveform"]
DOMAINS: tuple[Domain, ...] = ("mel", "stft", "waveform")

MEL_FLOOR = 1e-10  # power; -100 dB, the extractor's floor
# Windowed samples at once: on a CPU fresh pages cost more than the transform beyond a
# few MB, on a GPU starting a kernel does.
STFT_CELLS = {"cpu": 1 << 20, "cuda": 1 << 24}


class MelToFreq(nn.Module):
    """Values on STFT bins from values on mel bands, by the matrix of `mel_bridge`.

    Each bin is interpolated between its two bands alone, a fifth of the time of the
    product. Between equal values nothing is rounded, on any device: what is left beside
    a mask of ones must be nothing.

    Parameters
    ----------
    matrix : Tensor [F, n_mels]
        Rows of no or of two neighbouring bands' weights, which sum to one.
    """

    band: Tensor
    share: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        lower = (matrix > 0).int().argmax(1)
        band = lower.where(matrix.any(1), torch.full_like(lower, matrix.shape[1]))
        share = nn.functional.pad(matrix, (0, 2)).gather(1, band[:, None] + 1)
        self.register_buffer("band", band, persistent=False)
        self.register_buffer("share", share, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[..., F, T] from [..., n_mels, T]; 0 on bins of no band."""
        padded = nn.functional.pad(values.to(self.share.dtype), (0, 0, 0, 2))
        low, high = (padded.index_select(-2, self.band + step) for step in (0, 1))
        return torch.lerp(low, high, self.share)


class FrontEnd(nn.Module):
    """STFT pair, log-mel and length policy of one CLAP checkpoint.

    Parameters
    ----------
    feature_extractor : ClapFeatureExtractor
        The checkpoint's own. Its truncation mode chooses the mel filters, as in HF:
        Slaney for ``rand_trunc``, HTK for ``fusion``.

    Attributes
    ----------
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Window (periodic Hann) and hop, samples.
    n_freqs, n_mels : int
        STFT bins (``n_fft // 2 + 1``) and mel bands.
    max_samples, n_frames : int
        Length of the encoder's input, in samples and in frames.
    n_channels : int
        4 for a fused checkpoint, else 1.
    visible : Tensor [F], bool
        Bins that reach the encoder: those in a mel band.

    Raises
    ------
    InputError
        If the hop exceeds half a window (a mask on such an STFT cannot be listened
        to), or the truncation or padding is none of CLAP's.
    """

    mel_filters: Tensor
    visible: Tensor
    mask_terms: Tensor

    def __init__(self, feature_extractor: ClapFeatureExtractor) -> None:
        super().__init__()
        fe = feature_extractor
        if fe.truncation not in ("rand_trunc", "fusion"):
            raise InputError(f"unknown truncation {fe.truncation!r} in the extractor")
        if fe.padding not in ("repeatpad", "repeat", "pad"):
            raise InputError(f"unknown padding {fe.padding!r} in the extractor")
        if 2 * fe.hop_length > fe.fft_window_size:
            raise InputError(
                f"hop_length {fe.hop_length} is more than half of the window "
                f"({fe.fft_window_size}): a mask on this STFT cannot be listened to"
            )
        self.sample_rate = int(fe.sampling_rate)
        self.n_fft = int(fe.fft_window_size)
        self.hop_length = int(fe.hop_length)
        self.n_freqs = self.n_fft // 2 + 1
        self.n_mels = int(fe.feature_size)
        self.max_samples = int(fe.nb_max_samples)
        self.n_frames = 1 + self.max_samples // self.hop_length
        self.padding = fe.padding
        self.fused = fe.truncation == "fusion"
        self.n_channels = 4 if self.fused else 1
        filters = fe.mel_filters if self.fused else fe.mel_filters_slaney
        visible = np.any(filters > 0, axis=1)
        bridge = mel_bridge(fe, "htk" if self.fused else "slaney") * visible[:, None]
        self.register_buffer("mel_filters", _float(filters), persistent=False)
        self.register_buffer("visible", torch.from_numpy(visible), persistent=False)
        self.mel_to_freq = MelToFreq(_float(bridge))
        terms = _float(mask_terms(filters, bridge))
        self.register_buffer("mask_terms", terms, persistent=False)

    # ------------------------------------------------------------------ lengths

    def clip_frames(self, samples: int) -> int:
        """Frames of the STFT of a clip: ``1 + ceil(samples / hop_length)``.

        The last one is centred on the clip's end or beyond it. With one frame less, as
        in HF, the last samples would lie in the tail of a single window, where the
        ISTFT divides by almost zero, and any mask would end in a click.
        """
        return 1 + -(-samples // self.hop_length)

    def fit_length(self, wavs: Tensor, offset: int | None = None) -> Tensor:
        """Bring clips of one length to the encoder's length.

        Shorter clips follow the extractor's padding (``repeatpad``: whole
        repetitions, then zeros). Longer ones are cropped; HF does so at random.

        Parameters
        ----------
        wavs : Tensor [B, samples]
            At least one sample long.
        offset : int, optional
            First sample kept of longer clips; without it their middle is kept.

        Returns
        -------
        Tensor [B, max_samples]

        Raises
        ------
        InputError
            If the clips have no samples.
        """
        samples = wavs.shape[-1]
        if samples == 0:
            raise InputError("a clip without samples has no spectrogram")
        surplus = samples - self.max_samples
        if surplus >= 0:
            start = surplus // 2 if offset is None else offset
            return wavs[:, start : start + self.max_samples]
        whole = self.max_samples // samples
        copies = {"pad": 1, "repeatpad": whole, "repeat": whole + 1}[self.padding]
        tiled = wavs.repeat(1, copies)[:, : self.max_samples]
        return nn.functional.pad(tiled, (0, self.max_samples - tiled.shape[-1]))

    def tile_mask(self, mask: Tensor, samples: int | Tensor) -> Tensor:
        """Put a clip's mask on the input grid, once for each repetition of the clip.

        The first copy is the mask itself. The others start between two frames in
        general, and are interpolated linearly in time. Over padded zeros the last
        column is repeated.

        Parameters
        ----------
        mask : Tensor [B, ..., T]
            On the clip grid; columns beyond ``clip_frames(samples)`` are ignored.
        samples : int or Tensor [B]
            Length of the clips.

        Returns
        -------
        Tensor [B, ..., n_frames]
        """
        length = torch.as_tensor(samples, device=mask.device)
        if bool((length >= self.max_samples).all()):
            return mask[..., : self.n_frames]
        position, last = self._tile_positions(length.expand(len(mask)))
        low = position.floor().long()
        high = torch.minimum(low + 1, last)
        shape = (len(mask), *[1] * (mask.dim() - 2), self.n_frames)
        weight = (position - low).to(mask.dtype).view(shape)
        low, high = (i.view(shape).expand(*mask.shape[:-1], -1) for i in (low, high))
        return mask.gather(-1, low) * (1 - weight) + mask.gather(-1, high) * weight

    def _tile_positions(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Place in the clip of each input frame [B, n_frames], last frame [B, 1]."""
        samples = samples.clamp(max=self.max_samples)[:, None]
        copies = torch.ones_like(samples)
        if self.padding != "pad":
            copies = self.max_samples // samples + (self.padding == "repeat")
        frame = torch.arange(self.n_frames, device=samples.device).expand(
            len(samples), -1
        )
        sample = frame * self.hop_length
        last = (-(-samples // self.hop_length)).clamp(max=self.n_frames - 1)
        position = (sample % samples).to(torch.float32) / self.hop_length
        position = torch.where(sample < copies * samples, position, last)
        return torch.where(frame <= last, frame, position), last

    def crop_mask(self, mask: Tensor, samples: int) -> Tensor:
        """The clip's mask from one [..., n_frames] on the input grid: its first copy.

        Inverse of `tile_mask`, for a clip of at most ``max_samples``.
        """
        frames = self.clip_frames(min(samples, self.max_samples))
        lacking = frames - mask.shape[-1]  # 1 if the hop does not divide max_samples
        if lacking > 0:
            mask = torch.cat(
                [mask, mask[..., -1:].expand(*mask.shape[:-1], lacking)], -1
            )
        return mask[..., :frames]

    # ------------------------------------------------------------- STFT pair

    def stft(self, wavs: Tensor) -> Tensor:
        """Short-time Fourier transform, centred, reflected at the edges.

        Parameters
        ----------
        wavs : Tensor [..., samples]
            Waveforms. One too short to be reflected is padded with zeros first.

        Returns
        -------
        Tensor [..., F, clip_frames], complex64
            Equal to HF's in the frames that HF has.
        """
        spectrum = self._in_chunks(self._stft, wavs.reshape(-1, wavs.shape[-1]))
        return spectrum.reshape(*wavs.shape[:-1], *spectrum.shape[-2:])

    def _in_chunks(self, function: Callable[[Tensor], Tensor], wavs: Tensor) -> Tensor:
        cells = STFT_CELLS.get(wavs.device.type, STFT_CELLS["cuda"])
        rows = cells // (self.n_fft * self.clip_frames(wavs.shape[-1]))
        parts = [function(part) for part in wavs.split(max(1, rows))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _stft(self, flat: Tensor) -> Tensor:
        samples, edge = flat.shape[-1], self.n_fft // 2
        if samples <= edge:
            flat = nn.functional.pad(flat, (0, edge + 1 - samples))
        flat = nn.functional.pad(flat, (edge, edge), mode="reflect")
        if samples % self.hop_length:
            flat = nn.functional.pad(flat, (0, self.hop_length))
        # as in HF: transformed in float64, stored in complex64. In float32 the noise
        # of the transform itself shows in cells 100 dB below a frame's peak
        flat = flat.to(torch.float32 if flat.device.type == "mps" else torch.float64)
        spectrum = torch.stft(
            flat,
            self.n_fft,
            self.hop_length,
            window=self._window(flat),
            center=False,
            return_complex=True,
        ).to(torch.complex64)
        return spectrum[..., : self.clip_frames(samples)]

    def istft(self, stft: Tensor, samples: int) -> Tensor:
        """Invert `stft`.

        Parameters
        ----------
        stft : Tensor [..., F, T], complex64
            Masked or not. Missing frames at its end count as silent.
        samples : int
            Length of the waveform.

        Returns
        -------
        Tensor [..., samples]
        """
        flat = stft.reshape(-1, *stft.shape[-2:])
        lacking = self.clip_frames(samples) - flat.shape[-1]
        if lacking > 0:
            flat = nn.functional.pad(flat, (0, lacking))
        flat = flat.transpose(1, 2)
        frames = torch.fft.irfft(flat, n=self.n_fft)
        whole = self._window(frames).expand(1, frames.shape[1], -1)
        edge = self.n_fft // 2
        clip = slice(edge, edge + samples)
        waves = self._overlap_add(frames)[:, clip] / self._overlap_add(whole)[:, clip]
        return waves.reshape(*stft.shape[:-2], samples)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """[N, T, n_fft] -> [N, samples], windowed.

        A third of the time of torch.istft's fold.
        """
        rows, count, length = frames.shape
        hop = self.hop_length
        starts, window = range(0, length, hop), self._window(frames)
        total = frames.new_zeros(rows, count + len(starts) - 1, hop)
        for shift, start in enumerate(starts):
            part = slice(start, start + hop)
            place = total[:, shift : shift + count, : len(window[part])]
            place.addcmul_(frames[..., part], window[part])
        return total.flatten(1)

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device)

    # ------------------------------------------------------------- log-mel

    def mel_power(self, power: Tensor) -> Tensor:
        """Mel power [..., n_mels, T] of a power spectrogram [..., F, T]."""
        # in one layout: the product rounds otherwise in another, and a mask of ones
        # would count as a change. An STFT has this one
        with torch.autocast(power.device.type, enabled=False):  # float32 it stays
            return (power.mT.contiguous() @ self.mel_filters).mT

    def to_log_mel(self, mel_power: Tensor) -> Tensor:
        """Mel power in dB, laid out as the encoder reads it.

        Parameters
        ----------
        mel_power : Tensor [B, n_mels, T]
            From `mel_power`.

        Returns
        -------
        Tensor [B, C, T, n_mels]
            dB re 1, floored at -100 dB; four equal channels for a fused checkpoint.
        """
        laid_out = power_to_db(mel_power, MEL_FLOOR).transpose(-1, -2)[:, None]
        # contiguous: on transposed input, torch 2.11's CPU backward of CLAP's input
        # BatchNorm and bicubic stretch is wrong by a factor of 100, without a word
        return laid_out.expand(-1, self.n_channels, -1, -1).contiguous()

    def log_mel(self, wavs: Tensor, offset: int | None = None) -> Tensor:
        """Encoder input of clips of one length.

        Parameters
        ----------
        wavs : Tensor [B, samples]
            At ``sample_rate``.
        offset : int, optional
            See `fit_length`.

        Returns
        -------
        Tensor [B, C, n_frames, n_mels]
            Equal to HF's extractor to 1e-3 dB (same crop, ``is_longer`` false).
        """

        def mel_of(clips: Tensor) -> Tensor:
            return self.mel_power(power(self._stft(clips)[..., : self.n_frames]))

        return self.to_log_mel(self._in_chunks(mel_of, self.fit_length(wavs, offset)))

    def stft_to_log_mel(self, stft: Tensor) -> Tensor:
        """Encoder input of STFTs [B, F, n_frames] of clips after `fit_length`."""
        return self.to_log_mel(self.mel_power(power(stft[..., : self.n_frames])))

    # ------------------------------------------------------------- InputTf

    def expand_mask(self, mask: Tensor) -> Tensor:
        """Carry a mask from mel bands to STFT bins.

        Linear interpolation, on the mel scale, between the two bands beside each bin.
        Bins beyond the centre of the lowest or highest band take its mask, and those
        that are not `visible`, 0.

        Parameters
        ----------
        mask : Tensor [..., n_mels, T]
            In [0, 1].

        Returns
        -------
        Tensor [..., F, T]
            In [0, 1].
        """
        bins: Tensor = self.mel_to_freq(mask)
        return bins

    def mask_response(self, power: Tensor) -> Tensor:
        """Precompute, of power spectrograms [B, F, T], what `masked_mel_power` needs.

        [B, 5, n_mels, T]: factors of the products of neighbouring bands' mask values.
        """
        with torch.autocast(power.device.type, enabled=False):
            flat = self.mask_terms @ power.contiguous()
        response: Tensor = flat.unflatten(1, (5, self.n_mels))
        return response

    def masked_mel_power(self, response: Tensor, mask: Tensor) -> Tensor:
        """Mel power [B, n_mels, T] of STFTs under masks [B, n_mels, T] on mel bands.

        Equal to carrying the mask to STFT bins by `expand_mask`, multiplying, and
        `mel_power`, at a fraction of the cost: each bin lies between two bands, so mel
        power is a quadratic form of the mask's values on neighbouring bands.
        """
        below, own, above, down, up = response.unbind(1)
        padded = nn.functional.pad(mask, (0, 0, 1, 1))
        low, high = padded[:, :-2], padded[:, 2:]
        squares = below * low.square() + own * mask.square() + above * high.square()
        total: Tensor = squares + mask * (down * low + up * high)
        return total

    def input_tf(self, stft: Tensor, mask: Tensor, domain: Domain = "stft") -> Tensor:
        """InputTf: encoder input of spectrograms under masks, differentiable in both.

        Parameters
        ----------
        stft : Tensor [B, F, n_frames], complex64
            STFT of clips after `fit_length`.
        mask : Tensor [B, n_mels, n_frames] (mel) or [B, F, n_frames] (stft, waveform)
            In [0, 1]; or [B, P, ...], several masks of each clip.
        domain : {"mel", "stft", "waveform"}
            ``mel``: the mask multiplies the mel magnitude. ``stft``: it multiplies
            the complex STFT. ``waveform``: as ``stft``, then ISTFT and `log_mel`, so
            that the sound of the explanation itself is scored.

        Returns
        -------
        Tensor [B, C, n_frames, n_mels], or [B * P, ...]

        Raises
        ------
        InputError
            If `domain` is none of them.
        """
        stft = stft[..., : self.n_frames]
        if mask.dim() > stft.dim():
            stft = stft[:, None]
        if domain == "waveform":
            wavs = self.istft(mask * stft, self.max_samples)
            return self.log_mel(wavs.flatten(0, -2))
        if domain == "mel":
            masked = mask.square() * self.mel_power(power(stft))
            return self.to_log_mel(masked.flatten(0, -3))
        if domain == "stft":
            masked = mask.square() * power(stft)
            return self.to_log_mel(self.mel_power(masked.flatten(0, -3)))
        raise InputError(f"domain is {domain!r}, not one of {', '.join(DOMAINS)}")


def power(stft: Tensor) -> Tensor:
    """Power of an STFT, without the square root that ``abs()**2`` takes first."""
    return stft.real.square() + stft.imag.square()


def cell_power(front_end: FrontEnd, spectrum: Tensor, domain: Domain) -> Tensor:
    """Power of the cells that masks of a domain multiply: STFT bins or mel bands."""
    cells = power(spectrum[..., : front_end.n_frames])
    return front_end.mel_power(cells) if domain == "mel" else cells


def mel_bridge(fe: ClapFeatureExtractor, mel_scale: str) -> np.ndarray:
    """Weights [F, n_mels] that interpolate values on mel bands at the STFT's bins.

    Rows sum to one; at most two entries of a row are not zero.
    """
    bands = fe.feature_size
    low = hertz_to_mel(fe.frequency_min, mel_scale)
    high = hertz_to_mel(fe.frequency_max, mel_scale)
    hertz = np.linspace(0, fe.sampling_rate / 2, fe.fft_window_size // 2 + 1)
    mels = hertz_to_mel(hertz, mel_scale)
    # band m of a bank of n peaks at point m + 1 of n + 2 from low to high
    position = (mels - low) / (high - low) * (bands + 1) - 1
    position = np.clip(position, 0, bands - 1)
    weights: np.ndarray = np.maximum(
        0, 1 - np.abs(position[:, None] - np.arange(bands))
    )
    return weights


def mask_terms(filters: np.ndarray, bridge: np.ndarray) -> np.ndarray:
    """Weights [5 * n_mels, F] of `FrontEnd.mask_response`, from matrices [F, n_mels].

    For each mel band: of the squares of the mask's values in the band below, its own
    and the band above, and of the products of its own with those below and above.
    """
    padded = np.pad(bridge, ((0, 0), (1, 1)))
    low, own, high = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    factors = (low * low, own * own, high * high, 2 * low * own, 2 * own * high)
    return np.concatenate([(filters * factor).T for factor in factors])


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(torch.float32)
