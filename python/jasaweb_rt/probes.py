"""What a gateway answers to those who watch it, whatever becomes of the application behind it."""

from litestar import Litestar
from litestar.di import Provide

from jasaweb_rt.api.errors import exception_handlers
from jasaweb_rt.api.health import HealthController
from jasaweb_rt.api.metrics import MetricsController
from jasaweb_rt.api.strictness import StrictRequest, must_ask_what_is_known
from jasaweb_rt.vitals import Vitals

__all__ = ["create_probes"]


def create_probes(vitals: Vitals) -> Litestar:
    """An application with `/healthz`, `/readyz` and `/metrics`, and no other route."""
    return Litestar(
        route_handlers=[HealthController, MetricsController],
        guards=[must_ask_what_is_known],
        request_class=StrictRequest,
        dependencies={"vitals": Provide(lambda: vitals, sync_to_thread=False)},
        exception_handlers=exception_handlers,
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
