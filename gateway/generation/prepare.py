"""A chat's prompt: template, tools and reasoning."""

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
)
from gateway.chat.reasoning.plan import (
    PreparedThinking,
    ThinkingPlan,
    plan_thinking,
    prepare_thinking,
)
from gateway.chat.template.messages import template_messages, uses_tools
from gateway.chat.template.template import ChatTemplate
from gateway.chat.template.tool_prompt import with_instructions
from gateway.chat.tools.tool_use import ToolUse
from gateway.generation.prompts import truncate
from gateway.models.served_model import ServedModel


async def prepare_prompt(
    data: ChatCompletionRequest, model: ServedModel, tool_use: ToolUse | None
) -> tuple[list[int], PreparedThinking | None]:
    """Returns the rendered prompt as token ids, and the reasoning of the answers to it (None if the
    model does not reason)."""
    has_tools = tool_use is not None or uses_tools(data.messages)
    template = model.tool_template if has_tools else model.template
    plan = _plan_thinking(data, model, template)
    messages = template_messages(data.messages, template.tools)
    tools = tool_use.as_template_tools() if tool_use else []
    if tools and not template.tools.shows_tools:
        messages = with_instructions(messages, tools)
    goes_on = bool(data.continue_final_message)
    text = template.render(
        messages,
        add_generation_prompt=not goes_on and data.add_generation_prompt is not False,
        continue_final_message=goes_on,
        variables=plan.variables,
        tools=tools,
    )
    (prompt,) = await model.encode([text], add_special=not template.writes_bos(text))
    asked = data.max_completion_tokens if data.max_tokens is None else data.max_tokens
    prompt = truncate(prompt, data.truncate_prompt_tokens, model.max_model_len - (asked or 1))
    if model.reasoner is None:
        return prompt, None
    return prompt, prepare_thinking(data, model.reasoner, text, plan.budget)


def _plan_thinking(
    data: ChatCompletionRequest, model: ServedModel, template: ChatTemplate
) -> ThinkingPlan:
    reasoning_format = None if model.reasoner is None else model.reasoner.reasoning_format
    controls = model.template_controls(template)
    return plan_thinking(data, reasoning_format, controls, model.default_thinking_budget)
