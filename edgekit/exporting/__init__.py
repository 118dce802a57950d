"""Torch to ONNX, proven to be the same model. The only room that imports torch, and only when called.

source, choosing, weights    what a folder says of itself, checked before torch is imported
loading, processor   the model, its tokenizer, and the processor that travels
folder, module       either kind of source as a `Subject`: how to trace it, what to compare it on
attention, onnx, clean, embedding    the trace, the graph, the file
checks, reference    the file against the original
"""
