"""A domain takes documents from whom IAM lets in, and gives them back to a test."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import urllib3
from botocore.credentials import Credentials

from ecs_ops.aws.search_index import SearchIndex
from ecs_ops.event_record import read_event
from tests.e2e.faults import Faults
from tests.e2e.http import call

if TYPE_CHECKING:
    from tests.sandbox.account import Account

_EVENT = {
    "id": "8d3b1f6e-41a2-4c0d-9f3e-5a6b7c8d9e0f",
    "detail-type": "ECS Task State Change",
    "source": "aws.ecs",
    "time": "2026-11-21T09:00:00Z",
    "detail": {"taskArn": "arn:aws:ecs:us-east-1:000000000000:task/demo/1"},
}
_INDEX = "ecs-events-2026.11.21"


class Domain:
    """A domain of one test's own."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.name = f"events-{uuid.uuid4().hex[:8]}"
        self.endpoint = f"{account.url}/_sandbox/search/{self.name}"
        self.arn = f"arn:aws:es:us-east-1:000000000000:domain/{self.name}"

    def documents(self) -> dict[str, Any]:
        pool = urllib3.PoolManager(ca_certs=str(self.account.ca_bundle))
        answer = pool.request("GET", f"{self.endpoint}/{_INDEX}", retries=False)
        assert answer.status == 200
        return dict(answer.json())

    def index(self, credentials: Credentials) -> dict[str, str]:
        """Index one event."""
        search = SearchIndex(
            self.endpoint, "us-east-1", credentials=credentials, sleep=lambda _: None
        )
        return search.index({"message": read_event(json.dumps(_EVENT))}, time_left=lambda: 30.0)


@pytest.fixture
def domain(account: Account, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.setenv("SSL_CERT_FILE", str(account.ca_bundle))
    return Domain(account)


def assume_role(account: Account, action: str, resource: str) -> Credentials:
    """Return temporary credentials of a new role that may do just this."""
    iam, name = account.client("iam"), f"role-{uuid.uuid4().hex[:8]}"
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    # Roles are assumed by users; root may not.
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    assume = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    iam.put_user_policy(
        UserName=name, PolicyName="only", PolicyDocument=_policy({**assume, "Resource": "*"})
    )
    trust = {**assume, "Principal": {"AWS": "arn:aws:iam::000000000000:root"}}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy(trust))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=_policy(statement))
    sts = boto3.client(
        "sts",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        region_name="us-east-1",
        endpoint_url=account.url,
        verify=str(account.ca_bundle),
    )
    session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="test")["Credentials"]
    return Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_event_is_a_document_when_the_role_may_post(account: Account, domain: Domain) -> None:
    role = assume_role(account, "es:ESHttpPost", f"{domain.arn}/_bulk")

    # The second time it overwrites itself.
    assert domain.index(role) == {}
    assert domain.index(role) == {}
    assert domain.documents() == {_EVENT["id"]: _EVENT}


@pytest.mark.parametrize(
    ("action", "resource"),
    [("es:ESHttpGet", "{arn}/*"), ("es:ESHttpPost", "{arn}-other/*"), ("es:ESHttpPost", "{arn}")],
)
def test_nothing_is_indexed_when_the_role_may_not_post(
    account: Account, domain: Domain, action: str, resource: str
) -> None:
    role = assume_role(account, action, resource.format(arn=domain.arn))

    assert domain.index(role) == {"message": "HTTP 403"}
    assert domain.documents() == {}


def test_nothing_is_indexed_when_the_secret_is_wrong(account: Account, domain: Domain) -> None:
    role = assume_role(account, "es:ESHttpPost", f"{domain.arn}/*")

    assert domain.index(Credentials(role.access_key, "wrong", role.token)) == {
        "message": "HTTP 403"
    }
    assert domain.documents() == {}


@pytest.mark.parametrize("sign", [False, True], ids=["unsigned", "signed for Lambda"])
def test_nothing_is_indexed_when_the_request_is_not_signed_for_a_domain(
    account: Account,
    domain: Domain,
    sign: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    lines = json.dumps({"index": {"_index": _INDEX, "_id": "1"}}) + "\n{}\n"
    headers = {"content-type": "application/json"}

    answer = call(account, "POST", f"{domain.endpoint}/_bulk", lines.encode(), headers, sign=sign)

    assert answer.status == 403
    assert domain.documents() == {}


def test_event_comes_back_when_the_domain_is_busy_on_demand(
    account: Account, domain: Domain
) -> None:
    root = Credentials("test", "test")
    with Faults(account, domain.name) as faults:
        faults.refuse("es:ESHttpPost", "TooManyRequests", status=429, times=2)

        assert domain.index(root) == {"message": "HTTP 429"}

    assert domain.index(root) == {}
