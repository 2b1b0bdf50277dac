from _checkout import run_script

if __name__ == "__main__":
    run_script("test")
