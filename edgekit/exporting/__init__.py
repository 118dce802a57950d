"""A torch model to ONNX, proven to be the same model. The only room that imports torch, and only when called.

    source.py folder.py module.py weights.py loading.py   the source, checked before torch is imported
    onnx.py clean.py attention.py quiet.py                tracing, and a clean graph
    processor.py texts.py                                 the processor that travels along
    subject.py checks.py reference.py                     the original beside the exported graph
"""
