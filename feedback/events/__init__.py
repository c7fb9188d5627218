"""What crosses a process boundary, schema version 1: one frozen model per event type.

Where to find what:

* `envelope`       Event, new_event, EVENT_MODELS: the CloudEvents envelope and the type table
* `codec`          encode, decode, fit_to_limit, MalformedEvent, UnknownVersion
* `prompt`         Prompt, ChatMessage, UseCase, hash_prompt
* `completion`     CompletionServed and its parts: Choice, SamplingParameters, BaseIdentity, Usage,
                   EngineIdentity, Latency, Consent, ParentChoice
* `ballot`         BallotClaims, BallotChoice, BallotRevealed, BallotSkipped
* `ranking`        RankingSubmitted, RankingRetracted, OutputRating, PromptAnnotations
* `rating`         RatingSubmitted
* `demonstration`  DemonstrationSubmitted
* `erasure`        SubjectErased
* `examples`       one filled example of every type
"""
