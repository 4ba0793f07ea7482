"""What a LiteRT file computes with."""

from typing import Any


def operators(content: bytes) -> list[tuple[Any, ...]]:
    """Kind, options and shapes of inputs and outputs of every operator."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (graph,) = model.subgraphs
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}

    def shapes(places: Any) -> tuple[Any, ...]:
        return tuple(tuple(map(int, graph.tensors[place].shape)) for place in places)

    def entry(operator: Any) -> tuple[Any, ...]:
        code = model.operatorCodes[operator.opcodeIndex]
        options = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
        kept = {key: int(value) for key, value in options.items() if "DataType" not in key}
        kind = f"{names[code.builtinCode]} {code.version}"
        return kind, tuple(sorted(kept.items())), shapes(operator.inputs), shapes(operator.outputs)

    return [entry(operator) for operator in graph.operators]
