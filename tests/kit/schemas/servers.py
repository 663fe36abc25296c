"""Arguments of tools in the manner of well-known MCP servers."""

from collections.abc import Mapping

from tests.kit.schemas import INTEGER, STRING, Written, an_object

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
BOOLEAN = {"type": "boolean"}

SERVERS: Mapping[str, Written] = {
    "files, edits": Written(
        {
            **an_object(
                ["path", "edits"],
                path=STRING,
                edits={
                    "type": "array",
                    "items": {
                        **an_object(
                            oldText={**STRING, "description": "Text to search for"}, newText=STRING
                        ),
                        "additionalProperties": False,
                    },
                },
                dryRun={**BOOLEAN, "default": False},
            ),
            "additionalProperties": False,
            "$schema": DRAFT_7,
        },
        fits=({"path": "a", "edits": [{"oldText": "a", "newText": "b"}], "dryRun": True},),
    ),
    "files, none": Written({"type": "object", "properties": {}, "required": []}, fits=({},)),
    "fetch": Written(
        {
            "description": "Parameters for fetching a URL.",
            **an_object(
                ["url"],
                url={**STRING, "format": "uri", "minLength": 1, "title": "Url"},
                max_length={
                    **INTEGER,
                    "default": 5000,
                    "exclusiveMinimum": 0,
                    "exclusiveMaximum": 1000000,
                },
                raw={**BOOLEAN, "default": False},
            ),
            "title": "Fetch",
        },
        fits=({"url": "https://a.de/", "max_length": 10},),
    ),
    "issues": Written(
        an_object(
            ["owner", "repo"],
            owner=STRING,
            repo=STRING,
            labels={"type": "array", "items": STRING},
            state={**STRING, "enum": ["OPEN", "CLOSED"]},
            since={**STRING, "format": "date-time"},
            perPage={"type": "number", "minimum": 1, "maximum": 100},
        ),
        fits=({"owner": "a", "repo": "b", "labels": [], "perPage": 30},),
    ),
    "a browser": Written(
        {
            **an_object(
                ["element", "ref"],
                element=STRING,
                ref=STRING,
                button={**STRING, "enum": ["left", "right", "middle"]},
                modifiers={"type": "array", "items": {**STRING, "enum": ["Alt", "Shift"]}},
                values={"type": "array", "items": STRING, "uniqueItems": True},
            ),
            "additionalProperties": False,
            "$schema": DRAFT_7,
        },
        ("properties.values.uniqueItems",),
        ({"element": "e", "ref": "1", "button": "left", "values": ["a"]},),
    ),
    "a browser, launch options": Written(
        an_object(
            ["url"],
            url=STRING,
            launchOptions={"type": "object", "description": "options"},
            allowDangerous=BOOLEAN,
        ),
        fits=({"url": "u", "launchOptions": {"args": ["--x"]}},),
    ),
    "a database": Written(
        {"type": "object", "properties": {"sql": STRING}}, fits=({"sql": "select 1"},)
    ),
    "a database, parameters": Written(
        an_object(
            ["sql"],
            sql=STRING,
            params={"type": "array", "items": {}},
            row={"type": "object", "properties": {}},
            schema={**STRING, "pattern": r"^(?!pg_)\w+$"},
        ),
        ("properties.schema.pattern",),
        ({"sql": "s", "params": [1, "a", None], "row": {"a": {"b": 1}}, "schema": "x"},),
    ),
    "messages": Written(
        an_object(
            ["channel_id"],
            channel_id=STRING,
            thread_ts={**STRING, "pattern": r"^\d{10}\.\d{6}$"},
            limit={"type": "number", "default": 10},
            blocks={"type": "array", "items": {"oneOf": [STRING, {"type": "object"}]}},
        ),
        fits=({"channel_id": "C", "thread_ts": "1234567890.123456", "blocks": ["a", {"b": 1}]},),
    ),
    "a required name that is not listed": Written(
        an_object(["a", "b"], a=STRING), fits=({"a": "x", "b": [1]},)
    ),
    "a required name that cannot be": Written(
        {**an_object(["a", "b"], a=STRING), "additionalProperties": False},
        ("required",),
        ({"a": "x"},),
    ),
    "required in the old way": Written(
        {"type": "object", "properties": {"a": {**STRING, "required": True}}},
        ("properties.a.required",),
        ({"a": "x"},),
    ),
}
