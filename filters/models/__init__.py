"""Models as files: ONNX with a small table beside it, run on survivors, one thread."""

from filters.models.model import BadModel, Model, model

__all__ = ["BadModel", "Model", "model"]
