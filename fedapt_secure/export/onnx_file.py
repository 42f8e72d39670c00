"""A finished model as one ONNX file: pixels in, logits, probabilities and domain out.

Two graphs are exported and put together by hand: what is computed for every image, with any batch size, and
what is computed for one image with prompts of its own, in a loop over those that need it. So the text tower
runs as often as in `predict`, and not at all in most batches.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.export.graphs import DOMAIN, LOGITS, OWN, PROBABILITIES, WEIGHTS, Graph, Own, Shared
from fedapt_secure.export.tracing import EXAMPLE_IMAGES, IMAGES_AT_ONCE, quiet_tracing

OPSET: Final = 18
"""Of the ONNX standard."""
IR_VERSION: Final = 8
"""Of the file format, as it came with `OPSET`; the exporter says a newer one, which older programs refuse."""
MODEL: Final = "model.onnx"
WEIGHTS_BESIDE: Final = "model.onnx.data"
PIXELS: Final = "pixels"
MAX_INSIDE_BYTES: Final = 1_900_000_000
"""Protobuf takes no message above 2 GiB; nodes and names need room beside the weights."""
_OWN_PREFIX: Final = "own/"
_MISSING: Final = "ONNX needs onnx, onnxruntime and onnxscript: pip install 'fedapt-secure[export]'"


def check_installed() -> None:
    """Raise `InvalidInput` where a library is missing that ONNX files need."""
    try:
        import onnx  # noqa: F401, PLC0415 - an extra, and seconds
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError:
        raise InvalidInput(_MISSING) from None


def write_onnx(
    folder: Path, graph: Graph, metadata: Mapping[str, str], *, most_inside: int = MAX_INSIDE_BYTES
) -> list[str]:
    """Write a model, and its weights beside it where they are too large to be inside.

    Args:
        folder: Where to.
        graph: What it computes.
        metadata: Properties of the file, as text.
        most_inside: Bytes of weights from which on they go into a file beside.

    Returns:
        The names of the files.
    """
    import onnx  # noqa: PLC0415 - an extra, and seconds

    model = _together(graph)
    onnx.helper.set_model_props(model, dict(metadata))
    beside = sum(len(one.raw_data) for one in model.graph.initializer) > most_inside
    path = folder / MODEL
    if beside:
        onnx.save_model(model, path, save_as_external_data=True, location=WEIGHTS_BESIDE)
    else:
        onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)
    return [MODEL, WEIGHTS_BESIDE] if beside else [MODEL]


def session_of(folder: Path) -> Any:
    """Return what onnxruntime makes of a folder's model, on a CPU."""
    import onnxruntime  # noqa: PLC0415 - an extra

    return onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])


def run_onnx(session: Any, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a session answers for pixels (B, 3, H, W), by the outputs' names."""
    names = [one.name for one in session.get_outputs()]
    parts = [session.run(names, {PIXELS: some.numpy()}) for some in torch.split(pixels, IMAGES_AT_ONCE)]
    return {
        name: torch.cat([torch.from_numpy(values) for values in found])
        for name, found in zip(names, zip(*parts, strict=True), strict=True)
    }


def _together(graph: Graph) -> Any:
    """Return one model of what is computed for every image and for some."""
    from onnx import TensorProto, helper  # noqa: PLC0415 - an extra, and seconds

    model = _exported_shared(graph.shared, graph.size)
    body, classes = model.graph, _width(model.graph, LOGITS)
    logits = LOGITS
    if graph.own is not None:
        logits = _with_own(body, _exported_own(graph.own, graph.row_sizes), graph.own.names, classes)
    if logits != LOGITS:
        body.node.append(helper.make_node("Identity", [logits], ["logits_out"]))
        _rename(body, {LOGITS: "shared_logits", "logits_out": LOGITS})
    body.node.append(helper.make_node("Softmax", [LOGITS], [PROBABILITIES], axis=1))
    outputs = [
        helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", classes]),
        helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", classes]),
    ]
    if DOMAIN in graph.shared.names:
        keys = _width(body, WEIGHTS)
        outputs.append(helper.make_tensor_value_info(DOMAIN, TensorProto.INT64, ["batch"]))
        outputs.append(helper.make_tensor_value_info(WEIGHTS, TensorProto.FLOAT, ["batch", keys]))
    del body.output[:], body.value_info[:]
    body.output.extend(outputs)
    return _plain(model)


def _with_own(body: Any, own: Any, names: tuple[str, ...], classes: int) -> str:
    """Add a loop over the images that need prompts of their own; return the name of all logits.

    Args:
        body: The graph of what is computed for every image, which is changed.
        own: The graph for one image.
        names: Which values of ``body`` it takes one row of.
        classes: M.
    """
    from onnx import TensorProto, compose, helper  # noqa: PLC0415 - an extra, and seconds

    own = compose.add_prefix_graph(own, _OWN_PREFIX)
    body.initializer.extend(own.initializer)
    node, value = helper.make_node, helper.make_tensor_value_info
    constants = {"own_last": [1], "own_first": [0]}
    body.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, [1], values) for name, values in constants.items()
    )
    inside = [node("Gather", ["own_rows", "own_turn"], ["own_row"], axis=0)]
    inside.append(node("Unsqueeze", ["own_row", "own_first"], ["own_place"]))
    inside += [
        node("Gather", [name, "own_place"], [one.name], axis=0)
        for name, one in zip(names, own.input, strict=True)
    ]
    inside += own.node
    inside.append(node("Squeeze", [own.output[0].name, "own_first"], ["own_logits_row"]))
    inside.append(node("Identity", ["own_go_on"], ["own_goes_on"]))
    loop = helper.make_graph(
        inside,
        "own_prompts",
        [value("own_turn", TensorProto.INT64, []), value("own_go_on", TensorProto.BOOL, [])],
        [
            value("own_goes_on", TensorProto.BOOL, []),
            value("own_logits_row", TensorProto.FLOAT, [classes]),
        ],
    )
    body.node.extend(
        [
            node("NonZero", [OWN], ["own_where"]),  # (1, N)
            node("Squeeze", ["own_where", "own_first"], ["own_rows"]),  # (N,)
            node("Shape", ["own_rows"], ["own_count_listed"]),
            node("Squeeze", ["own_count_listed", "own_first"], ["own_count"]),
            node("Loop", ["own_count", ""], ["own_logits"], body=loop),  # (N, M)
            node("Unsqueeze", ["own_rows", "own_last"], ["own_places"]),  # (N, 1)
            node("ScatterND", [LOGITS, "own_places", "own_logits"], ["all_logits"]),
        ]
    )
    return "all_logits"


def _exported_shared(shared: Shared, size: tuple[int, int]) -> Any:
    batch = torch.export.Dim("batch", min=1)
    return _exported(
        shared,
        (torch.zeros(EXAMPLE_IMAGES, 3, *size),),
        input_names=[PIXELS],
        output_names=list(shared.names),
        dynamic_shapes=({0: batch},),
    )


def _exported_own(own: Own, row_sizes: tuple[int, ...]) -> Any:
    rows = tuple(torch.full((1, size), 1.0 / size) for size in row_sizes)
    return _exported(own, rows, input_names=list(own.names), output_names=["logits"]).graph


def _exported(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], **options: Any) -> Any:
    with quiet_tracing(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(), arguments, dynamo=True, opset_version=OPSET, verbose=False, **options
        )
    if program is None:
        raise InvalidInput("this version of torch gives no ONNX program: update torch")
    return program.model_proto


def _width(graph: Any, name: str) -> int:
    found = next(one for one in graph.output if one.name == name)
    return int(found.type.tensor_type.shape.dim[1].dim_value)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(one, one) for one in node.input]
        node.output[:] = [names.get(one, one) for one in node.output]


def _plain(model: Any) -> Any:
    """Return a model without what the exporter notes of the source: its traces name this machine's paths."""

    def clear(graph: Any) -> None:
        for one in (*graph.node, *graph.initializer, *graph.input, *graph.output):
            one.doc_string = ""
            if hasattr(one, "metadata_props"):
                del one.metadata_props[:]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    clear(attribute.g)

    clear(model.graph)
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.graph.name, model.doc_string, model.ir_version = "fedapt-secure", "", IR_VERSION
    return model
