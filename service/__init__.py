"""The HTTP process: OpenAI-style API, ballots and votes, admin, hot swap."""
