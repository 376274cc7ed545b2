"""Signed tokens (JWT) and the keys to check them with, made with openssl: for `check.py` and for the Java client.

    tokens.py USER     makes keys in the working folder, jwks.json and ec.pub for the broker, and USER's token in token.jwt
"""

import base64
import json
import subprocess
import sys
import time

ISSUER, AUDIENCE = "https://issuer.example", "polymq"


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make_rsa(name):
    openssl("genrsa", "-out", f"{name}.key", "2048")


def make_ec(name):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
    openssl("pkey", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub")


def rsa_jwk(name):
    modulus = openssl("rsa", "-in", f"{name}.key", "-noout", "-modulus").decode().strip().split("=")[1]
    return {"kty": "RSA", "kid": name, "use": "sig", "alg": "RS256", "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}


def write_jwks(*names):
    with open("jwks.json", "w") as file:
        json.dump({"keys": [rsa_jwk(name) for name in names]}, file)


def plain_signature(der):
    """The two numbers of an ECDSA signature, 32 bytes each, out of their DER."""
    at, numbers = 2, []
    for _ in range(2):
        length = der[at + 1]
        numbers.append(der[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + length
    return b"".join(numbers)


def token(user, key="rsa", seconds=3600, algorithm="RS256", **claims):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now + min(seconds, 0) - 60, "exp": now + seconds, **claims}
    header = {"alg": algorithm, "kid": key}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    if algorithm == "none":
        return signed + "."
    signature = openssl("dgst", "-sha256", "-sign", f"{key}.key", given=signed.encode())
    return f"{signed}.{encoded(signature if algorithm == 'RS256' else plain_signature(signature))}"


if __name__ == "__main__":
    make_rsa("rsa")
    make_ec("ec")
    write_jwks("rsa")
    with open("token.jwt", "w") as file:
        file.write(token(sys.argv[1]))
