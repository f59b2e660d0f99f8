"""The workers of a `tf.distribute.MultiWorkerMirroredStrategy`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnfix.errors import OptionError, WorkerError, gist
from bnfix.workers import Alone, Workers

#: Seconds that a worker waits for one that is alive and does not come. One that is dead, or stands
#: still, is missed by TensorFlow's own heartbeat within about ten.
PATIENCE = 600.0


class StrategyWorkers:
    """One process of several, which reduce by the collective operations of `strategy`."""

    def __init__(self, strategy: Any, rank: int, size: int) -> None:
        self.strategy, self.rank, self.size = strategy, rank, size
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)

        def reduce(values: Any) -> Any:
            context: Any = tf.distribute.get_replica_context()
            # Every replica of a worker takes part, and one of them speaks for it.
            each = strategy.num_replicas_in_sync // size
            speaks = tf.equal(context.replica_id_in_sync_group % each, 0)
            said = tf.where(speaks, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, said, options)

        def run(values: Any) -> Any:
            return strategy.run(reduce, args=(values,))

        self._function: Any = tf.function(run, autograph=False)
        self._traced: dict[tuple[int, ...], Callable[[Any], Any]] = {}

    def own_part(self, ds: Any) -> Any:
        """Of a dataset that `strategy` has distributed, or a function of an `InputContext`."""
        if callable(ds) and not hasattr(ds, "__iter__"):
            replicas = self.strategy.num_replicas_in_sync
            return ds(tf.distribute.InputContext(self.size, self.rank, replicas))
        batches: Any = ds
        if isinstance(ds, tf.distribute.DistributedDataset):
            return (self._here(batch) for batch in batches)
        return ds

    def _here(self, batch: Any) -> Any:
        def joined(leaf: Any) -> Any:
            return tf.concat(self.strategy.experimental_local_results(leaf), axis=0)

        return tf.nest.map_structure(joined, batch)

    def all_reduce(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if values.shape not in self._traced:
            # Called directly it stays compiled where functions run eagerly, as it has to be in all
            # processes or in none.
            spec = tf.TensorSpec(values.shape, tf.float64)
            self._traced[values.shape] = self._function.get_concrete_function(spec)
        try:
            summed = self._traced[values.shape](tf.constant(values, tf.float64))
        except tf.errors.OpError as error:
            raise WorkerError(
                f"worker {self.rank} of {self.size} has lost another one, which was killed, stands "
                f"still, or did not come within {PATIENCE:g} seconds ({gist(error)}). Every worker "
                "has to call bnfix, with the same options; start all of them again."
            ) from error
        return np.asarray(self.strategy.experimental_local_results(summed)[0])


def workers_of(strategy: Any) -> Workers:
    """Those among which `strategy` trains; of any but MultiWorkerMirroredStrategy there is one.

    Raises:
        OptionError: It is no strategy of TensorFlow.
    """
    if not isinstance(strategy, tf.distribute.Strategy):
        raise OptionError(
            f"strategy is a {type(strategy).__name__}; it may be a tf.distribute.Strategy."
        )
    if not is_multi_worker(strategy):
        return Alone()
    resolver: Any = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    tasks = [(kind, at) for kind in ("chief", "worker") for at in range(len(cluster.get(kind, ())))]
    if len(tasks) < 2:
        return Alone()
    return StrategyWorkers(
        strategy, tasks.index((resolver.task_type, resolver.task_id)), len(tasks)
    )


def is_multi_worker(strategy: Any) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def outside_of_strategies(work: Callable[[], Any]) -> Any:
    """What `work` returns, run where variables are made and read as if there were no strategy."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    # A scope is one of the thread that has entered it. Ctrl-C leaves this one to itself: what it
    # works on is its own.
    Thread(target=run, daemon=True).start()
    return result.result()
