"""Chips and the weights that they hold."""

from __future__ import annotations

from convatlas.experiments.topics.on_chip import DEVICES, describe, largest_held, weight_sizes

SIZES = weight_sizes(alexnet=60_965_224, squeezenet=1_248_424)


def test_what_each_chip_holds() -> None:
    held = {
        device.name: tuple(largest_held(device, SIZES[name]) for name in ("SqueezeNet", "AlexNet"))
        for device in DEVICES
    }
    assert held == {
        "RP2040": ("none", "none"),
        "ESP32": ("Deep Compression, 6 bits", "none"),
        "STM32F746": ("Deep Compression, 8 bits", "none"),
        "STM32H743": ("8 bits", "none"),
        "Zynq-7020": ("Deep Compression, 6 bits", "none"),
        "Kintex-7 325T": ("8 bits", "none"),
        "Virtex-7 690T": ("32 bits", "none"),
        "Virtex UltraScale+ VU9P": ("32 bits", "Deep Compression"),
    }
    for forms in SIZES.values():
        assert list(forms.values()) == sorted(forms.values(), reverse=True)


def test_sizes_are_in_bytes() -> None:
    figures = dict(describe(SIZES))
    assert figures["weights of SqueezeNet, 32 bits"] == "4.99 MB"
    assert figures["weights of AlexNet, Deep Compression"] == "7.24 MB"
    # 140 blocks of 36 * 1024 bits.
    assert figures["Zynq-7020 (140 block RAMs of 36 Kibit; AMD DS190)"] == (
        "0.65 MB, holds of AlexNet: none; of SqueezeNet: Deep Compression, 6 bits"
    )
