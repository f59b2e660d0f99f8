"""Why a BatchNormalization must stay."""


class Objection(Exception):
    """One reason, in a clause that names the layers."""
