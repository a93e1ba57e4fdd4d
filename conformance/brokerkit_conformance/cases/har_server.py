"""HAR: the report says what was tested: which product in which version, real or not, and how it was set."""

from __future__ import annotations

from brokerkit_conformance import serving
from brokerkit_conformance.bench import Bench, check
from brokerkit_conformance.casebook import case
from brokerkit_conformance.model import NotRun


@case("HAR-06")
def the_server_is_recorded(bench: Bench) -> None:
    """What the harness tells of its server stands in the report as it is, with a digest of the settings that is no accident."""
    harness = bench.harness
    sides = [bench.capabilities] if bench.urls else [bench.results_capabilities]
    if bench.urls:
        bench.queue()  # so that there is a server to ask
    settings = {str(name): str(value) for name, value in harness.server_settings().items()}
    for name, told in (("server", harness.server), ("emulator", harness.emulator), ("server_settings()", settings)):
        if told in ("", None, {}):
            raise NotRun(f"the harness does not tell its {name}, so that the report cannot say what was tested")
    check(any(letter.isdigit() for letter in harness.server), f"{harness.server!r} names no version")
    first, second = serving.server_of(harness, sides), serving.server_of(harness, sides)
    recorded = {name: first[name] for name in ("told", "emulator", "settings")}
    given = {"told": harness.server, "emulator": harness.emulator, "settings": settings}
    check(recorded == given, f"the report says {recorded}, and the harness {given}")
    check(first["settings_digest"].startswith("sha256:"), "the report has no digest of the settings")
    check(first == second, "asked twice, the harness tells two different servers")
    bench.measured["server"] = harness.server
    bench.measured["settings"] = first["settings_digest"]
