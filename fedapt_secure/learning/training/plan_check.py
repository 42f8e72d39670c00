"""What of a session's plan a model cannot do, said when the plan is read: before any image is looked at."""

from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.context_words import check_initial_context
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.protocol.methods import method_facts
from fedapt_secure.protocol.plan import SessionPlan
from fedapt_secure.protocol.reasons import Reason, told_as


def check_plan(plan: SessionPlan, backbone: Backbone) -> None:
    """Refuse class names and first contexts that do not go with a model, in sessions and simulations alike.

    A name has to leave room for the plan's context tokens, and for one where the method learns none: what a
    tokenizer cuts off would be missing in every prompt.

    Args:
        plan: The session's.
        backbone: The frozen CLIP that it names.

    Raises:
        InvalidInput: With the reason; its code is that of a plan that cannot be trained.
    """
    with told_as(Reason.PLAN_IMPOSSIBLE):
        if plan.initial_context is not None:
            check_initial_context(backbone, plan.initial_context)
        learned = plan.context_tokens if method_facts(plan.method).learns_context else 1
        PromptedText(backbone, plan.class_names, learned, plan.class_specific)
