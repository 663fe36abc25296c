"""OpenAI's Responses API, translated onto the path that chats take."""
