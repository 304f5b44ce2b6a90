"""Replaces a served probe by a new version of it, while requests are being scored.

    check against the model -> read beside the old one -> score the sentinel's texts -> serve

The last step is one step of the event loop. Before it every request begins with the old set of
probes, after it every request begins with the new one (`candor.scoring.served`).
"""

from __future__ import annotations

from collections.abc import Sequence

from candor import logs
from candor.errors import InvalidRequest, UnknownProbe
from candor.flags import UsageError
from candor.models.load import RewardModel
from candor.probes.artifact import LoadedProbe, ProbeMismatch
from candor.probes.card import Card
from candor.scoring.caveats import caveats
from candor.scoring.rewarder import Rewarder
from candor.scoring.served import Served, ServedProbe
from candor.text.request import Group

log = logs.get(__name__)


async def replace_probe(
    rewarder: Rewarder,
    loaded: LoadedProbe,
    texts: Sequence[Group],
    timeout_s: float,
) -> tuple[Served, Served]:
    """Serves `loaded` in the place of the probe of its name: as a monitor if that one is a monitor,
    and with the method and the lambda that the settings give. The drift windows of this probe begin
    again.

    Args:
        texts: the new probe must give finite scores for them before it is served.

    Returns:
        The sets of probes before and after.

    Raises:
        CandorError: the probe does not fit, or the texts could not be scored. The old one is served
            on.
    """
    name = loaded.card.name
    if name not in rewarder.served.everything:
        names = ", ".join(repr(each) for each in rewarder.served.everything) or "none"
        raise UnknownProbe(f"card.name: no probe of this name is served; served: {names}")
    if name in rewarder.served.projected:
        raise InvalidRequest(
            f"card.name: {name} is projected (--method project), so it changes the model itself, "
            "which a server does only at its start: start a server with the new probe"
        )
    try:
        warn_of(loaded.card, rewarder.model)
        served = rewarder.as_served(loaded)
    except (ProbeMismatch, UsageError) as error:
        raise InvalidRequest(f"card: {error}") from None
    async with rewarder.live.replacing:
        before = rewarder.served
        after = before.with_probe(served)
        try:
            with rewarder.live.held(after):
                await rewarder.raw_scores(texts, timeout_s, after)
                rewarder.live.serve(after)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        if rewarder.drift is not None:
            rewarder.drift.restart(loaded.probe)
        rewarder.labels.restart(after.all_versions(), name)
    log_probe("probe_replaced", after.everything[name])
    return before, after


def warn_of(card: Card, model: RewardModel) -> None:
    """Checks that a probe was fitted on this model and template; logs what is not sure.

    Raises:
        ProbeMismatch: it was fitted on another.
    """
    remark = model.check_probe(card)
    if remark is not None:
        log.warning("probe_without_template_date", message=remark)


def log_probe(event: str, probe: ServedProbe) -> None:
    """A line of the log about a probe that is served from now on."""
    card = probe.loaded.card
    log.info(
        event,
        probe=card.name,
        version=card.version,
        sha256=probe.loaded.sha256[:12],
        layer=card.layer,
        pooling=card.pooling,
        bound=card.bound.model_dump(exclude_none=True),
        method=None if probe.monitor else probe.method,
        threshold=probe.use.threshold,
        served_lambda=probe.default_lambda,
        monitor=probe.monitor,
    )
    for caveat in caveats(card, monitor=probe.monitor, bounded=probe.bounded):
        log.warning(caveat.type, probe=card.name, message=caveat.message)
