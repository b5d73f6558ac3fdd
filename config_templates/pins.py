"""The container images that everything runs on, on AWS and on a laptop, each by digest. A stack may name others."""

from typing import Final

ORTHANC_IMAGE: Final = "orthancteam/orthanc:26.8.1@sha256:ffdfa1141b6b89a631c10d5ac612e18b934d601c3501e73b597bd700ecfd4004"
NGINX_IMAGE: Final = "nginx:1.30.5@sha256:b972f831f200b19ef0767938224f9711e74cd783718738cd7405d5cabf75c442"
POSTGRES_IMAGE: Final = "postgres:18.4@sha256:3a82e1f56c8f0f5616a11103ac3d47e632c3938698946a7ad26da0df1334744a"  # laptop only
