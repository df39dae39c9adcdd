"""Settings of the service as a whole."""

from yap.setting_groups.group import Group
from yap.setting_kinds import ApiKeys, DeployModels, IpAddress, number, setting


class ServiceSettings(Group):
    """Who may call the service, and where it listens."""

    title = "Service"

    text_api_key: ApiKeys = setting(
        None,
        "The keys that clients present. Several, separated by commas, are all valid, so that keys "
        "can be rotated without a pause.",
        allowed="one or more keys separated by commas, each of 8 to 256 printable ASCII "
        "characters without blanks",
        unset="the service does not start",
    )
    host: IpAddress = setting(
        "127.0.0.1",
        "IP address to listen on; 0.0.0.0 is every IPv4 interface.",
        allowed="an IP address such as 127.0.0.1 or 0.0.0.0, not a name",
    )
    port: int = number(8000, 1, 65535, "", "TCP port to listen on.")
    max_concurrent_connections: int = number(
        32, 1, 10_000, "connections", "WebSocket connections served at once; one more is refused."
    )
    deploy_models: DeployModels = setting(
        "both", "Which models to serve: chat, the screen classifier (tool), or both."
    )
