"""What keys have used, as OpenAI's organization API tells it."""
