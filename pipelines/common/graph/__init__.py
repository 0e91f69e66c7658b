"""From a network to a target's graph: build and lower."""

from pipelines.common.deferred import defer

# Of onnx_ir the arithmetic with symbolic dimensions, of onnxscript the folding of constants: few
# graphs need either, and importing them takes longer than an 8B's graph takes to be lowered.
defer("sympy", "onnx_ir._symbolic_shapes", "onnx.reference.ops")
