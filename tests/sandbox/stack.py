"""Build the bundle with the SAM CLI and deploy it into a local account, as a user deploys it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from tests.sandbox.account import REGION, REPOSITORY, STACK, TOOLS, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sandbox.account import Account

BUILT_TEMPLATE = REPOSITORY / ".aws-sam" / "build" / "template.yaml"
DEMO_CLUSTER = "demo"
DEMO_SUBNET = "subnet-demo"
LOG_GROUP = "/ecs/demo"
SEARCH_DOMAIN = "/_sandbox/search/events"
KEY_ALIAS = "alias/ecs-ops"
PROFILES_PARAMETER = "/ecs-ops/launcher/profiles"
# What the account's stack is given: the launcher on, over the demo cluster; a search domain; roles
# and keys that a recycle may be done with.
PARAMETERS = {
    "LauncherTaskDefinition": "demo-job",
    "LauncherCluster": DEMO_CLUSTER,
    "LauncherSubnets": DEMO_SUBNET,
    "LauncherAllowedEnvironment": "GREETING,JOB_*",
    "LauncherProfilesParameter": PROFILES_PARAMETER,
    "LauncherAuth": "TOKEN",
    "RecycleRoleArns": "arn:aws:iam::000000000000:role/recycler-*",
    "RecycleSecretArns": "arn:aws:secretsmanager:us-east-1:000000000000:secret:recycler-*",
    "OpenSearchDomainArn": "arn:aws:es:us-east-1:000000000000:domain/events",
}
# What else the launcher may be asked for.
PROFILES: dict[str, dict[str, Any]] = {
    "migrate": {
        "cluster": DEMO_CLUSTER,
        "taskDefinition": "demo-migrate",
        "subnets": [DEMO_SUBNET],
        "environment": {"EXIT_CODE": "[0-9]{1,3}"},
    },
    # It runs until it is stopped.
    "web": {
        "cluster": DEMO_CLUSTER,
        "taskDefinition": "demo-web",
        "subnets": [DEMO_SUBNET],
        "environment": {"GREETING": None, "JOB_*": None},
        "command": True,
        "maxCpu": 1024,
        "maxMemory": 4096,
        "tags": ["Team"],
    },
    "ops": {
        "cluster": DEMO_CLUSTER,
        "taskDefinition": "demo-job",
        "subnets": [DEMO_SUBNET],
        "callers": ["nobody"],
    },
    "pushed": {
        "cluster": DEMO_CLUSTER,
        "taskDefinition": "demo-job",
        "subnets": [DEMO_SUBNET],
        "environment": {"GREETING": None, "JOB_NAME": "[0-9a-f]{40}"},
        "webhook": {"GREETING": "ref", "JOB_NAME": "head_commit.id"},
    },
    "broken": {"cluster": 7},
}
ARTIFACTS = "ecs-ops-artifacts"


def build(tree: Path = REPOSITORY) -> Path:
    """`sam build` in a tree, with its cache; return the built template."""
    folder = tree / ".aws-sam"
    run(
        [
            *(str(TOOLS / "sam"), "build"),
            *("--template-file", str(tree / "template.yaml")),
            *("--build-dir", str(folder / "build")),
            *("--cache-dir", str(folder / "cache")),
        ],
        _sam_env(),
    )
    return folder / "build" / "template.yaml"


def deploy(
    account: Account,
    *,
    template: Path = BUILT_TEMPLATE,
    name: str = STACK,
    parameters: Mapping[str, str] = PARAMETERS,
) -> dict[str, str]:
    """`sam deploy` into the account; return the stack's outputs."""
    s3 = account.client("s3")
    if ARTIFACTS not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=ARTIFACTS)
    run(
        [
            str(TOOLS / "sam"),
            "deploy",
            *("--template-file", str(template)),
            *("--stack-name", name),
            *("--s3-bucket", ARTIFACTS),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            "--parameter-overrides",
            *(f"{key}={value}" for key, value in parameters.items()),
            f"KmsKeyArn={encryption_key(account)}",
            f"OpenSearchEndpoint={account.url}{SEARCH_DOMAIN}",
        ],
        _sam_env(account.env),
    )
    stack = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def delete(account: Account, name: str = STACK) -> None:
    """`sam delete`, with what was uploaded for the stack."""
    region = account.env["AWS_REGION"]
    command = [str(TOOLS / "sam"), "delete", "--stack-name", name, "--region", region]
    run([*command, "--s3-bucket", ARTIFACTS, "--no-prompts"], _sam_env(account.env))


def encryption_key(account: Account) -> str:
    """Return the ARN of the key that the stack encrypts with; the first to ask makes it."""
    kms = account.client("kms")
    with contextlib.suppress(kms.exceptions.NotFoundException):
        return str(kms.describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]["Arn"])
    key = kms.create_key(Policy=key_policy())["KeyMetadata"]
    kms.create_alias(AliasName=KEY_ALIAS, TargetKeyId=key["KeyId"])
    return str(key["Arn"])


def key_policy() -> str:
    """Return the policy that docs/security.md gives to a key, for this account and any stack."""
    page = (REPOSITORY / "docs" / "security.md").read_text()
    policy = page.partition("```json\n")[2].partition("```")[0]
    here = policy.replace("111122223333", "000000000000").replace("eu-west-1", REGION)
    return here.replace(f"/{STACK}-*", "/*")


def launcher_token(account: Account, outputs: Mapping[str, str]) -> str:
    """Return the token that the stack made for the launcher's caller `default`."""
    secrets = account.client("secretsmanager")
    text = secrets.get_secret_value(SecretId=outputs["LauncherSecretArn"])["SecretString"]
    return str(json.loads(text)["default"])


def create_demo_cluster(account: Account) -> None:
    """Create what the README and the demo run: the cluster `demo`, task definitions, profiles.

    Runs twice without harm. Nothing in the images is used: the local account runs the commands.
    """
    ecs = account.client("ecs")
    ecs.create_cluster(clusterName=DEMO_CLUSTER)
    role = _execution_role(account.client("iam"))
    commands = {
        # A migration that takes a moment and exits as it is told.
        "demo-migrate": 'echo "applying 3 migrations"; sleep 1; exit ${EXIT_CODE:-0}',
        "demo-job": 'echo "${GREETING:-hello} from task ${JOB_NAME:-one}"',
        "demo-web": "trap 'exit 0' TERM; echo listening; while :; do sleep 0.1; done",
    }
    for family, command in commands.items():
        ecs.register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            # As Fargate asks of tasks that log: whoever runs them has to pass this role.
            executionRoleArn=role,
            containerDefinitions=[
                {
                    "name": "app",
                    "image": "public.ecr.aws/docker/library/busybox:stable",
                    "essential": True,
                    "command": ["sh", "-c", command],
                    "logConfiguration": {
                        "logDriver": "awslogs",
                        "options": {
                            "awslogs-group": LOG_GROUP,
                            "awslogs-create-group": "true",
                            "awslogs-region": account.env["AWS_REGION"],
                            "awslogs-stream-prefix": "demo",
                        },
                    },
                }
            ],
        )
    account.client("ssm").put_parameter(
        Name=PROFILES_PARAMETER, Value=json.dumps(PROFILES), Type="String", Overwrite=True
    )


def trust(service: str) -> str:
    """Return the policy by which an AWS service may assume a role."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _execution_role(iam: Any) -> str:
    name = "demo-execution"
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust("ecs-tasks"))
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def _sam_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    # python3.13 and its pip come from the project's environment, the one this runs in.
    python = str(REPOSITORY / ".venv" / "bin")
    return {
        **os.environ,
        **(extra or {}),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
    }
