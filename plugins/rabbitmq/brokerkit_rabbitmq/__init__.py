"""brokerkit on RabbitMQ."""

from brokerkit_rabbitmq.transport import RabbitMQTransport

__all__ = ["RabbitMQTransport"]
