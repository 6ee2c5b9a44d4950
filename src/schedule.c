/* schedule.c - orders this rank's sends and receives into ring steps and stages. See schedule.h. */
#include "schedule.h"

#include "memory.h"

/* Bytes of a message that carries these sets, in a pass. */
static int64_t message_bytes(const bsd_share *share, const bsd_bitset *kv, const bsd_bitset *q,
                             int pass) {
  const bsd_task *task = share->task;
  int64_t row = task->head_dim * bsd_dtype_bytes(task->dtype);
  int64_t bytes = bsd_share_kv_tokens(share, kv) * 2 * row;
  if (pass == BSD_BACKWARD)
    bytes += bsd_share_q_tokens(share, q) * (2 * row + 2 * (int64_t)sizeof(float));
  return bytes * task->batch;
}

static void fill_side(const bsd_share *share, bsd_step *step, int64_t index, int receive) {
  const bsd_peer *peer = &share->peers[index];
  int pass;
  for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
    if (receive)
      step->receive_bytes[pass] = message_bytes(share, peer->kv_receive, peer->q_receive, pass);
    else
      step->send_bytes[pass] = message_bytes(share, peer->kv_send, peer->q_send, pass);
  }
  if (receive && step->receive_bytes[BSD_BACKWARD] > 0) {
    step->receive_peer = peer->rank;
    step->receive_index = index;
  }
  if (!receive && step->send_bytes[BSD_BACKWARD] > 0) {
    step->send_peer = peer->rank;
    step->send_index = index;
  }
}

bsd_status bsd_schedule_create(const bsd_share *share, bsd_schedule *schedule, bsd_error *error) {
  int nranks = share->layout->nranks, rank = share->rank, s;
  int32_t *index_of; /* by rank: peer index + 1 */
  bsd_schedule made = {rank, nranks, 1, 0, NULL};
  bsd_status status;
  int64_t i;
  BSD_TRY(bsd_alloc(&index_of, nranks, sizeof(int32_t), error));
  status = bsd_alloc(&made.steps, 2 * share->npeers, sizeof(bsd_step), error);
  if (status != BSD_OK) {
    bsd_free(index_of);
    return status;
  }
  for (i = 0; i < share->npeers; i++)
    index_of[share->peers[i].rank] = (int32_t)i + 1;
  for (s = 1; s < nranks; s++) {
    int from = index_of[(rank - s + nranks) % nranks], to = index_of[(rank + s) % nranks];
    bsd_step step = {
        .step = s, .receive_peer = -1, .send_peer = -1, .receive_index = -1, .send_index = -1};
    if (from > 0)
      fill_side(share, &step, from - 1, 1);
    if (to > 0)
      fill_side(share, &step, to - 1, 0);
    if (step.receive_peer < 0 && step.send_peer < 0)
      continue;
    made.steps[made.nsteps++] = step;
  }
  bsd_free(index_of);
  bsd_schedule_cut(&made, &(bsd_stages){.count = 2});
  *schedule = made;
  return BSD_OK;
}

int bsd_stages_of_step(const bsd_stages *stages, int step) {
  if (stages->count < 3)
    return stages->count - 1;
  return step <= stages->first_steps ? 1 : 2;
}

void bsd_schedule_cut(bsd_schedule *schedule, const bsd_stages *stages) {
  int64_t i;
  schedule->stages = schedule->nsteps > 0 ? stages->count : 1;
  for (i = 0; i < schedule->nsteps; i++)
    schedule->steps[i].stage = bsd_stages_of_step(stages, schedule->steps[i].step);
}

void bsd_schedule_free(bsd_schedule *schedule) {
  bsd_free(schedule->steps);
  schedule->steps = NULL;
  schedule->nsteps = 0;
}

int64_t bsd_schedule_received(const bsd_schedule *schedule, int pass) {
  int64_t i, bytes = 0;
  for (i = 0; i < schedule->nsteps; i++)
    bytes += schedule->steps[i].receive_bytes[pass];
  return bytes;
}

int64_t bsd_schedule_sent(const bsd_schedule *schedule, int pass) {
  int64_t i, bytes = 0;
  for (i = 0; i < schedule->nsteps; i++)
    bytes += schedule->steps[i].send_bytes[pass];
  return bytes;
}

int bsd_schedule_stage(const bsd_schedule *schedule, int64_t peer_index) {
  int64_t i;
  for (i = 0; i < schedule->nsteps; i++)
    if (schedule->steps[i].receive_index == peer_index)
      return schedule->steps[i].stage;
  return 0;
}

int bsd_schedule_is_valid(const bsd_schedule *schedule, const bsd_share *share) {
  int64_t i;
  int pass, n = schedule->nranks;
  for (i = 0; i < schedule->nsteps; i++) {
    const bsd_step *step = &schedule->steps[i];
    if (step->step < 1 || step->step >= n || step->stage < (schedule->stages > 1) ||
        step->stage >= schedule->stages)
      return 0;
    if (i > 0 &&
        (schedule->steps[i - 1].step >= step->step || schedule->steps[i - 1].stage > step->stage))
      return 0;
    if (step->receive_peer >= 0 && step->receive_peer != (schedule->rank - step->step + n) % n)
      return 0;
    if (step->send_peer >= 0 && step->send_peer != (schedule->rank + step->step) % n)
      return 0;
    for (pass = BSD_FORWARD; pass <= BSD_BACKWARD; pass++) {
      const bsd_peer *from = step->receive_index < 0 ? NULL : &share->peers[step->receive_index];
      const bsd_peer *to = step->send_index < 0 ? NULL : &share->peers[step->send_index];
      int64_t in = from ? message_bytes(share, from->kv_receive, from->q_receive, pass) : 0;
      int64_t out = to ? message_bytes(share, to->kv_send, to->q_send, pass) : 0;
      if (step->receive_bytes[pass] != in || step->send_bytes[pass] != out)
        return 0;
    }
  }
  return 1;
}
