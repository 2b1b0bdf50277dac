"""`stark_s50_ar` for the VOT toolkit, which starts this as `python -m lib.test.vot20.stark_s50_ar`."""

from lib.test.vot20.stark_vot20 import run_variant

if __name__ == "__main__":
    run_variant("stark_s50_ar")
