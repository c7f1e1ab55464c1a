"""The zygote of filters that ask models: as the other one, with what runs models."""

from __future__ import annotations

from filters.sandbox.inside.zygote import run, warm


def main(control: int) -> None:
    """The zygote. control: its socket."""
    run(control, _warm, "filters.sandbox.inside.child")


def _warm() -> None:
    """Run a model once, and an expression that asks it: what is loaded then, a child cannot load."""
    warm()
    from filters.external.externals import frames_of
    from filters.models.model import give, model
    from filters.models.where import Where
    from filters.testing import packet

    give({"sample": model("light_curve_class")})
    where = Where("rb >= 0 and sample.supernova >= 0; score = (sample.mover, '')", "sample")
    alerts = frames_of(where.reads, where.survey).of_packets([packet("ztf", rb=0.5), packet("ztf")])
    cuts, values = where(alerts)
    for late in (cuts["sample.supernova >= 0"], values["score"]):
        late(alerts)
    give({})
