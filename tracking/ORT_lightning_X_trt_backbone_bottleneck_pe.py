from _checkout import run_script

if __name__ == "__main__":
    run_script("ORT_lightning_X_trt_backbone_bottleneck_pe")
