"""Torch to ONNX, proven to be the same model. The only room that imports torch, and only when called.

source, choosing, weights    what a folder says of itself, checked before torch is imported
loading, processor   the model, its tokenizer, and the processor that travels
folder, module       either kind of source as a `Subject`: how to trace it, what to compare it on
encoder_decoder, cached, generating   a model that writes text as an `Assembly` of two Subjects
attention, onnx, clean, embedding    the trace, the graph, the file
written, checks, reference   the files against the original
"""
