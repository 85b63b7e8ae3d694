"""The Hub's routes for jobs: scripts go into a bucket over Xet, and a job is the request that starts it."""

import json

from .routes import Response, route


BUCKET = r"/api/buckets/(?P<bucket>[\w.-]+/[\w.-]+)"


@route("POST", BUCKET, access="write")
def create_bucket(hub, request, bucket):
    hub.buckets.setdefault(bucket, {})
    return Response({"url": f"{hub.endpoint}/buckets/{bucket}"})


@route("GET", rf"{BUCKET}/xet-write-token", access="write")
def bucket_token(hub, request, bucket):
    connection = hub.xet.connection
    url, token, expiry = connection["endpoint"], connection["token"], connection["token_expiry_unix_secs"]
    return Response({"casUrl": url, "accessToken": token, "exp": expiry})


@route("POST", rf"{BUCKET}/batch", access="write")
def add_to_bucket(hub, request, bucket):
    """Keeps the Xet hash of each file; `hub.xet.read(hash, size)` gives its content."""
    for operation in map(json.loads, request.body.splitlines()):
        assert operation["type"] == "addFile"
        hub.buckets[bucket][operation["path"]] = operation["xetHash"]
    return Response({"success": True})


@route("POST", r"/api/jobs/(?P<namespace>[\w.-]+)", access="write")
def start_job(hub, request, namespace):
    hub.jobs.append(request.json)
    status = {"stage": "SCHEDULING", "message": None}
    return Response({"id": "0" * 24, "owner": {"id": "1", "name": namespace, "type": "user"}, "status": status})
