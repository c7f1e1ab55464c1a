"""Image stamps of alerts as arrays, and what their pixels say."""

from filters.stamps.images import Images, images
from filters.stamps.once import Remembered
from filters.stamps.score import Shape, point_score, shape_of

__all__ = ["Images", "Remembered", "Shape", "images", "point_score", "shape_of"]
