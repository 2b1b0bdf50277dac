"""The parts of the check before a training; `lib.train.check` puts them together."""
