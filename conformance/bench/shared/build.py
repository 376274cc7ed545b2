"""The binaries that are measured."""
import json
import os
import subprocess


def release(root, *packages):
    """Builds the packages' release binaries; returns the folder that they are in."""
    names = [word for package in packages for word in ("--package", package)]
    subprocess.run(["cargo", "build", "--release", "--locked", *names], cwd=root, check=True)
    metadata = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=root, check=True, capture_output=True, text=True)
    return os.path.join(json.loads(metadata.stdout)["target_directory"], "release")
