"""The hooks of microkit-pydantic: a validator, a renderer of models, and the check of results by annotation.

pydantic itself is imported when the first type is claimed.
"""

from __future__ import annotations

from microkit import PluginInfo, hookimpl
from microkit.plan import Plan
from microkit.renderers import RendererSpec
from microkit.validation import ValidatorSpec

from .claims import VALIDATOR
from .results import MODEL_RENDERER, check_results

# All of it: whoever installs this plugin wants models to be understood, in parameters as in results.
microkit_plugin_info = PluginInfo(
    "pydantic", kernel=">=0.4,<0.5", hook_api=1, automatic=("validator", "renderer", "results")
)


@hookimpl
def microkit_validators() -> ValidatorSpec:
    return VALIDATOR


@hookimpl
def microkit_renderers() -> RendererSpec:
    return MODEL_RENDERER


@hookimpl
def microkit_modify_plan(plan: Plan) -> None:
    check_results(plan)
