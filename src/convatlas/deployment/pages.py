"""What people find in an artefact's folder beside the network: the model card and a script that predicts."""

from __future__ import annotations

from collections.abc import Mapping

import jinja2

from convatlas.deployment.int8 import WHOLE
from convatlas.deployment.manifest import Manifest, distribution_of
from convatlas.files.artefacts import NETWORK_SUFFIXES
from convatlas.formatting import count, percent, plural, size
from convatlas.images import Preprocessing

NARROW_WEIGHTS = (
    "It was made on a processor without VNNI, where sums of products overflow: its weights use 7 of 8 bits, so that it "
    "answers the same on every processor."
)
WHOLE_WEIGHTS = (
    "Its weights use all 8 bits. On x86 processors without VNNI sums of products may overflow; for those, export the "
    "model on one of them."
)


def render(template: str, values: Mapping[str, object]) -> bytes:
    """A text of this package, filled in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("convatlas.deployment", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown and Python, not HTML.
        autoescape=False,
    )
    environment.filters |= {"count": count, "percent": percent, "size": size}
    return environment.get_template(template).render(values).encode(errors="backslashreplace")


def script(manifest: Manifest) -> bytes:
    """`predict.py`."""
    preprocessing = manifest.card.preprocessing
    values = {
        "package": manifest.runtime.package,
        "runtime": manifest.runtime.value,
        "ink": preprocessing.ink,
        "side": preprocessing.native_side,
    }
    return render("predict.py.jinja", values)


def requirements(manifest: Manifest) -> bytes:
    """`requirements.txt`: the versions that the gate ran."""
    packages = (distribution_of(package) for package in (manifest.runtime.package, "PIL"))
    return "".join(f"{name}=={number}\n" for name, number in packages).encode()


def page(manifest: Manifest) -> bytes:
    """`README.md`, the model card for people."""
    card = manifest.card
    return render(
        "artefact.md.jinja",
        {
            "manifest": manifest,
            "card": card,
            # OpenVINO's weights lie beside the network.
            "networks": [file for file in manifest.files if file.name.endswith(NETWORK_SUFFIXES)],
            "preparation": describe(card.preprocessing),
            "proof": proof(manifest),
        },
    )


def describe(preprocessing: Preprocessing) -> list[str]:
    """What is done to an image, step by step."""
    color = "gray" if preprocessing.channels == 1 else str(preprocessing.channel_order).upper()
    steps = []
    if preprocessing.ink is not None:
        steps.append("find the ink of a drawing and frame it, bright on black (by predict.py)")
    if preprocessing.native_side is not None and preprocessing.native_side < preprocessing.resize:
        steps.append(f"make it as coarse as the training images, {preprocessing.native_side} px")
    steps.append(f"resize it to {preprocessing.resizing}")
    if preprocessing.crop < preprocessing.resize:
        steps.append(f"take the {preprocessing.crop} px in the middle")
    mean, std = ([round(float(value), 6) for value in values] for values in (preprocessing.mean, preprocessing.std))
    steps.append(f"{color}, values of 0 to {preprocessing.value_range:g}, minus {mean}, divided by {std}")
    return steps


def proof(manifest: Manifest) -> list[str]:
    """The gate's figures in sentences."""
    gate = manifest.gate
    where = f"{gate.num_images} image files, in batches of {', '.join(map(str, gate.batch_sizes))}"
    lines = [
        f"Logits differ from the model's by {gate.logit_difference:.1e} of the largest at most ({where}).",
        f"Of the values that it prepares {percent(gate.changed_values)} differ, by {gate.num_levels:.2g} levels of 255 "
        f"at most; from image file to logits that makes {gate.image_logit_difference:.1e} of the largest.",
        f"Products, as the runtime says that it computes them: {gate.computed}.",
    ]
    loss = gate.loss
    if loss is not None:
        low, high = loss.interval
        lines.append(
            f"Of {count(loss.num_images)} {loss.images} the model gets {percent(loss.model_accuracy)} right and this "
            f"artefact {percent(loss.artefact_accuracy)}: {loss.loss:+.2f} points lost (95 % interval {low:+.2f} to "
            f"{high:+.2f}). For {percent(loss.agreement)} of them both name the same class."
        )
        if loss.unseen is not None:
            lines.append(f"So few images could not have shown a loss of up to {loss.unseen:.2f} points.")
    if gate.num_calibration is not None:
        lines.append(f"It was calibrated on {plural(gate.num_calibration, 'other image')}.")
    if (latency := manifest.int8_latency) is not None:
        lines.append(
            f"Where it was made, an image takes {latency.int8_ms:.2f} ms, and {latency.float32_ms:.2f} in float32"
            + ("." if latency.is_faster else ": it is smaller there, and not faster.")
        )
    if (bits := manifest.weight_bits) is not None:
        lines.append(NARROW_WEIGHTS if bits < WHOLE else WHOLE_WEIGHTS)
    return lines
