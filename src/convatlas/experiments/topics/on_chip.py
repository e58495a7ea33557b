"""Whose memory on the chip holds which network's weights (Iandola et al. 2016, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KIB, MIB, MB = 2**10, 2**20, 10**6
BLOCK_RAM, ULTRA_RAM = 36 * KIB // 8, 288 * KIB // 8
"""Bytes of the memory blocks of AMD's (Xilinx's) FPGAs."""
SMALL = 10 * MB
"""Section 1: "FPGAs often have less than 10MB of on-chip memory"."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What has memory for weights on its chip."""

    name: str
    memory: str
    """What it is, in words."""
    num_bytes: int
    """Of its largest memory: weights that are only read may lie in flash."""
    source: str
    is_fpga: bool = False


DEVICES = (
    Device(name="RP2040", memory="264 KiB of RAM", num_bytes=264 * KIB, source="RP2040 data sheet"),
    Device(name="ESP32", memory="520 KiB of RAM", num_bytes=520 * KIB, source="ESP32 series data sheet"),
    Device(
        name="STM32F746",
        memory="320 KiB of RAM, 1 MiB of flash",
        num_bytes=MIB,
        source="STMicroelectronics DS10916",
    ),
    Device(
        name="STM32H743",
        memory="1 MiB of RAM, 2 MiB of flash",
        num_bytes=2 * MIB,
        source="STMicroelectronics DS12110",
    ),
    Device(
        name="Zynq-7020",
        memory="140 block RAMs of 36 Kibit",
        num_bytes=140 * BLOCK_RAM,
        source="AMD DS190",
        is_fpga=True,
    ),
    Device(
        name="Kintex-7 325T",
        memory="445 block RAMs of 36 Kibit",
        num_bytes=445 * BLOCK_RAM,
        source="AMD DS180",
        is_fpga=True,
    ),
    Device(
        name="Virtex-7 690T",
        memory="1,470 block RAMs of 36 Kibit",
        num_bytes=1470 * BLOCK_RAM,
        source="AMD DS180",
        is_fpga=True,
    ),
    Device(
        name="Virtex UltraScale+ VU9P",
        memory="2,160 block RAMs of 36 Kibit, 960 UltraRAMs of 288 Kibit",
        num_bytes=2160 * BLOCK_RAM + 960 * ULTRA_RAM,
        source="AMD DS890",
        is_fpga=True,
    ),
)


def weight_sizes(*, alexnet: int, squeezenet: int) -> dict[str, dict[str, float]]:
    """In bytes, of each network in forms from large to small. Those of Deep Compression are Table 2's, whose MB are of
    2^20 bytes.

    Args:
        alexnet: its number of parameters.
        squeezenet: likewise.
    """
    return {
        "AlexNet": {"32 bits": 4 * alexnet, "Deep Compression": 6.9 * MIB},
        "SqueezeNet": {
            "32 bits": 4 * squeezenet,
            "8 bits": squeezenet,
            "Deep Compression, 8 bits": 0.66 * MIB,
            "Deep Compression, 6 bits": 0.47 * MIB,
        },
    }


def largest_held(device: Device, forms: Mapping[str, float]) -> str:
    """The largest form of a network's weights that the device has memory for; "none" if it has for none."""
    return next((form for form, size in forms.items() if size <= device.num_bytes), "none")


def describe(sizes: Mapping[str, Mapping[str, float]]) -> tuple[tuple[str, str], ...]:
    """The sizes, and what each device holds, as figures of a measurement."""
    return (
        *(
            (f"weights of {name}, {form}", f"{size / MB:.2f} MB")
            for name, forms in sizes.items()
            for form, size in forms.items()
        ),
        *(
            (
                f"{device.name} ({device.memory}; {device.source})",
                f"{device.num_bytes / MB:.2f} MB, holds "
                + "; ".join(f"of {name}: {largest_held(device, forms)}" for name, forms in sizes.items()),
            )
            for device in DEVICES
        ),
    )
