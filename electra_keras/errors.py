"""The errors a user can mend, told apart from the bugs that only we can."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says what, where and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


class ConfigError(UserError):
    """A configuration names an unknown field, or a value of the wrong type or range."""


class CorpusError(UserError):
    """A corpus file is missing, unreadable, not text, or holds too little of it."""


class TokenizerError(UserError):
    """A vocabulary file cannot serve as a WordPiece vocabulary."""


class ShardError(UserError):
    """Prepared data is damaged or was made by another tokenizer or configuration."""


class WorkerError(UserError):
    """A process that prepares a part of the corpus was ended, as systems do when memory runs out."""


class RunError(UserError):
    """A run directory is missing, damaged, or belongs to another configuration."""


class BackendError(UserError):
    """A backend is unknown or not installed."""


class TrainingDiverged(UserError):
    """The loss became NaN or infinite; the message names the step and the last good checkpoint."""
