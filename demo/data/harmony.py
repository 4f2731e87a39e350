"""Harmony at the text level: renders a chat-completions request as Hearth's server does.

Covers what the generator uses (the rules of Hearth's docs on Harmony for messages, tools, response formats and effort);
it is not a general renderer: of JSON Schema it knows objects, strings, enums, numbers, booleans and arrays."""

import json

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
CUTOFF = "2024-06"
CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
CALLS_LINE = "Calls to these tools must go to the commentary channel: 'functions'."


def compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def system_text(effort: str, date: str, has_tools: bool) -> str:
    lines = [IDENTITY, "Knowledge cutoff: " + CUTOFF]
    if date:
        lines.append("Current date: " + date)
    channels = CHANNELS + ("\n" + CALLS_LINE if has_tools else "")
    return "\n".join(lines) + "\n\nReasoning: " + effort + "\n\n" + channels


def type_text(schema: dict, indent: str) -> str:
    kind = schema.get("type")
    if kind == "object":
        return object_text(schema, indent)
    if kind == "string":
        return " | ".join(f'"{v}"' for v in schema["enum"]) if "enum" in schema else "string"
    if kind in ("number", "integer"):
        return "number"
    if kind == "boolean":
        return "boolean"
    if kind == "array":
        return type_text(schema["items"], indent) + "[]" if "items" in schema else "Array<any>"
    return "any"


def object_text(schema: dict, indent: str) -> str:
    out = f"{indent}// {schema['description']}\n" if schema.get("description") else ""
    out += "{\n"
    required = schema.get("required", [])
    for key, prop in schema.get("properties", {}).items():
        if prop.get("description"):
            out += f"{indent}// {prop['description']}\n"
        optional = "" if key in required else "?"
        out += f"{indent}{key}{optional}: {type_text(prop, indent + '    ')},"
        if "default" in prop:
            value = prop["default"]
            quoted = isinstance(value, str) and "enum" not in prop
            out += " // default: " + (f'"{value}"' if quoted else value if isinstance(value, str) else compact(value))
        out += "\n"
    return out + indent + "}"


def tools_text(tools: list) -> str:
    out = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
    for tool in tools:
        function = tool["function"]
        for line in function.get("description", "").split("\n"):
            if line:
                out += f"// {line}\n"
        schema = function.get("parameters")
        if not schema or not schema.get("properties"):
            out += f"type {function['name']} = () => any;\n\n"
        else:
            out += f"type {function['name']} = (_: {type_text(schema, '')}) => any;\n\n"
    return out + "} // namespace functions"


def format_text(response_format: dict) -> str:
    spec = response_format["json_schema"]
    out = f"# Response Formats\n\n## {spec['name']}\n\n"
    if spec.get("description"):
        out += f"// {spec['description']}\n"
    return out + compact(spec["schema"])


def header(role: str, channel: str = "") -> str:
    return f"<|start|>{role}" + (f"<|channel|>{channel}" if channel else "") + "<|message|>"


def call_text(name: str, arguments: str) -> str:
    return f" to=functions.{name}<|channel|>commentary <|constrain|>json<|message|>{arguments}<|call|>"


def render_prompt(request: dict, date: str) -> str:
    """The prompt of a chat-completions request, ending in <|start|>assistant."""
    messages, tools = request["messages"], request.get("tools") or []
    effort = request.get("reasoning_effort", "medium")
    prefill = effort == "none"
    out = header("system") + system_text("low" if prefill else effort, date, bool(tools)) + "<|end|>"

    first = 0
    while first < len(messages) and messages[first]["role"] in ("system", "developer"):
        first += 1
    instructions = "\n\n".join(m["content"] for m in messages[:first] if m["content"])
    parts = ["# Instructions\n\n" + instructions] if instructions else []
    if tools:
        parts.append(tools_text(tools))
    if (request.get("response_format") or {}).get("type") == "json_schema":
        parts.append(format_text(request["response_format"]))
    if parts:
        out += header("developer") + "\n\n".join(parts) + "<|end|>"

    # Reasoning up to the last plain answer is dropped.
    answered = max((i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("content")
                    and not m.get("tool_calls")), default=-1)
    call_names = {}
    for i, message in enumerate(messages[first:], start=first):
        role, content = message["role"], message.get("content") or ""
        if role in ("system", "developer"):
            if content:
                out += header("developer") + "# Instructions\n\n" + content + "<|end|>"
        elif role == "user":
            out += header("user") + content + "<|end|>"
        elif role == "tool":
            out += f"<|start|>functions.{call_names[message['tool_call_id']]} to=assistant<|channel|>commentary<|message|>{content}<|end|>"
        else:
            calls = message.get("tool_calls") or []
            if calls and content:
                out += header("assistant", "commentary") + content + "<|end|>"
            if message.get("reasoning") and i > answered:
                out += header("assistant", "analysis") + message["reasoning"] + "<|end|>"
            if calls:
                call = calls[0]  # the generator makes one call a message
                call_names[call["id"]] = call["function"]["name"]
                out += "<|start|>assistant" + call_text(call["function"]["name"], call["function"]["arguments"])
            elif content:
                out += header("assistant", "final") + content + "<|end|>"
    return out + "<|start|>assistant" + ("<|channel|>final<|message|>" if prefill else "")


def final_completion(analysis: str, final: str) -> str:
    """What the model writes after <|start|>assistant to answer. An empty analysis is left out."""
    thinking = f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant" if analysis else ""
    return f"{thinking}<|channel|>final<|message|>{final}<|return|>"


def call_completion(analysis: str, name: str, arguments: str) -> str:
    """What the model writes after <|start|>assistant to call a tool."""
    return f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant" + call_text(name, arguments)
