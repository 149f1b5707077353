"""SASL over TLS: who gets in, and who does not."""

from confluent_kafka import KafkaError

from support import *


def rejected(code, **config):
    """A client with other settings does not get in, and is told why."""
    errors = []
    client = AdminClient({**base(), **{key.replace("_", "."): value for key, value in config.items()}, "error_cb": errors.append})
    try:
        client.list_topics(timeout=4)
        raise AssertionError(f"it got in with {config}")
    except KafkaException as failed:
        equal(failed.args[0].code(), KafkaError._TRANSPORT, str(failed))
    client.poll(0.5)
    assert code in [e.code() for e in errors], errors


@scenario
def password():
    """The right password over TLS works as ever; a wrong one, none, no TLS, and a certificate of somebody else do not."""
    topic = create(name())
    send(producer(), topic, [{"value": str(i).encode()} for i in range(100)])
    client = consumer(name("group"))
    client.subscribe([topic])
    equal(values(take(client, 100)), [str(i) for i in range(100)])
    client.commit(asynchronous=False)
    client.close()
    rejected(KafkaError._AUTHENTICATION, sasl_password="wrong")
    rejected(KafkaError._AUTHENTICATION, sasl_username="nobody")
    # No login, no TLS: it is hung up on.
    rejected(KafkaError._ALL_BROKERS_DOWN, security_protocol="SSL")
    rejected(KafkaError._ALL_BROKERS_DOWN, security_protocol="PLAINTEXT")
    rejected(KafkaError._SSL, ssl_ca_location=OPTIONS["another_ca"])
    equal(len(read_all(topic)), 100, "those who were in go on")


if __name__ == "__main__":
    run()
