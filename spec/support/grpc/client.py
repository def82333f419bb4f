#!/usr/bin/env python3
"""client.py - asks grpc.health.v1 with grpcio, and prints what it is told.

    client.py HOST:PORT COMMAND...

    check:NAME          the status of a service
    list                that of all, ordered by name
    watch:NAME[:S]      each status as it comes, for S seconds or without end
    time:COUNT          the median of COUNT checks, in ms

A line per answer: the command's word, the service, the status or the code of
the error, and the trailer x-health-state if there is one. TOKEN in the
environment is sent as a bearer token. Messages are put together by hand, as
Debian has no protos of this service.
"""
import os
import statistics
import sys
import time

import grpc

STATUS = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]


def request(service):
    name = service.encode()
    return bytes([0x0A, len(name)]) + name if name else b""


def status(message):
    return STATUS[message[1] if message else 0]


def statuses(message):
    found, at = {}, 0
    while at < len(message):
        assert message[at] == 0x0A, message
        pair = message[at + 2:at + 2 + message[at + 1]]
        at += 2 + len(pair)
        name = pair[2:2 + pair[1]]
        assert pair[2 + len(name)] == 0x12, pair
        found[name.decode()] = status(pair[4 + len(name):])
    return found


def say(*words):
    print(*words, flush=True)


class Client:
    def __init__(self, place):
        channel = grpc.insecure_channel(place)
        token = os.environ.get("TOKEN")
        self.metadata = [("authorization", "Bearer " + token)] if token else None

        def method(make, name, parse):
            return make("/grpc.health.v1.Health/" + name,
                        request_serializer=request, response_deserializer=parse)

        self.methods = {
            "check": method(channel.unary_unary, "Check", status),
            "list": method(channel.unary_unary, "List", statuses),
            "watch": method(channel.unary_stream, "Watch", status),
        }

    def ask(self, name, service):
        answer, call = self.methods[name].with_call(
            service, metadata=self.metadata, timeout=10)
        state = [v for k, v in call.trailing_metadata() if k == "x-health-state"]
        return answer, state

    def check(self, service):
        answer, state = self.ask("check", service)
        say("check", repr(service), answer, *state)

    def list(self):
        answer, state = self.ask("list", "")
        say("list", *(f"{name!r}={answer[name]}" for name in sorted(answer)), *state)

    def watch(self, service, seconds=None):
        timeout = float(seconds) if seconds else None
        for answer in self.methods["watch"](service, metadata=self.metadata,
                                            timeout=timeout):
            say("watch", repr(service), answer)

    def time(self, count):
        took = []
        for _ in range(int(count)):
            began = time.perf_counter()
            self.ask("check", "")
            took.append((time.perf_counter() - began) * 1000)
        say("time", f"{statistics.median(took):.3f}")


def main():
    client = Client(sys.argv[1])
    for command in sys.argv[2:]:
        word, *rest = command.split(":")
        try:
            getattr(client, word)(*rest)
        except grpc.RpcError as err:
            say(word, *(repr(one) for one in rest[:1]), err.code().name)


main()
