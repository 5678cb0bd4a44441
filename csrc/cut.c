/* Lock-free graph cuts: workers take blocks from one counter and never wait for each other (Niu,
   Recht, Re, Wright 2011). An epoch is all blocks of 64 edges that lie together, in random order,
   then all blocks of nodes. Not even the end of an epoch is waited for: a worker that the system
   has stopped in the middle of a block would hold up all others. All that workers write is loaded
   and stored by relaxed atomics: plain moves. */
#include <math.h>
#include <string.h>

#include "cut.h"
#include "order.h"
#include "rule.h"

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)

#define T float
#define FN(name) PASTE(name, f32)
#include "cut.inc"
#undef T
#undef FN
#define T double
#define FN(name) PASTE(name, f64)
#include "cut.inc"
#undef T
#undef FN

typedef void kernel(const fo_cut *run, double number, ptrdiff_t low, ptrdiff_t high);
static kernel *const edges[FO_DTYPES][FO_INDEX_TYPES] = {{edges_i32_f32, edges_i64_f32},
                                                         {edges_i32_f64, edges_i64_f64}},
                     *const nodes[FO_DTYPES] = {nodes_f32, nodes_f64};

enum { TAKEN = 8 }; /* blocks at a time: the counter's cache line travels less often */

static ptrdiff_t blocks_of_edges(const fo_graph *g) { return (g->edges + FO_EDGES - 1) / FO_EDGES; }

ptrdiff_t fo_cut_blocks(const fo_graph *g) {
    return blocks_of_edges(g) + (g->nodes + FO_NODES - 1) / FO_NODES;
}

static double step_of(const fo_cut *run, double epoch) {
    if (run->method == FO_FLOW || run->schedule == FO_STEP_CONSTANT) return run->step;
    if (run->schedule == FO_STEP_DECAY) return run->step * pow(run->decay, epoch);
    return run->step / (run->schedule == FO_STEP_INVERSE ? 1 + epoch : sqrt(1 + epoch));
}

static void block(const fo_cut *run, ptrdiff_t b) {
    const fo_graph *g = &run->graph;
    const ptrdiff_t of_edges = blocks_of_edges(g), epoch = b / fo_cut_blocks(g);
    const ptrdiff_t at = b - epoch * fo_cut_blocks(g);
    if (at < of_edges) {
        const uint64_t key = fo_mix(run->seed + fo_mix((uint64_t)epoch));
        const ptrdiff_t low =
            FO_EDGES * (ptrdiff_t)fo_permute((uint64_t)at, (uint64_t)of_edges, key);
        edges[g->dtype][g->index_type](run, step_of(run, (double)epoch), low,
                                       MIN(low + FO_EDGES, g->edges));
    } else {
        /* Later epochs count more (polynomial-decay averaging: Shamir and Zhang 2013). */
        const double share = 4 / ((double)epoch + 4);
        const ptrdiff_t low = FO_NODES * (at - of_edges);
        nodes[g->dtype](run, share, low, MIN(low + FO_NODES, g->nodes));
    }
}

static void body(void *ctx, int k, int n) {
    (void)k, (void)n; /* whoever comes takes what is left */
    fo_cut *run = (fo_cut *)ctx;
    const unsigned mode = fo_flush_subnormals();
    for (;;) {
        ptrdiff_t b = atomic_fetch_add_explicit(&run->next, TAKEN, memory_order_relaxed);
        if (b >= run->stop) break;
        for (const ptrdiff_t end = MIN(b + TAKEN, run->stop); b < end; b++) block(run, b);
    }
    fo_restore_subnormals(mode);
}

void fo_cut_slice(fo_cut *run, ptrdiff_t blocks, int threads) {
    run->stop = run->done + blocks;
    atomic_store(&run->next, run->done);
    fo_parallel(body, run, threads);
    run->done = run->stop;
}

void fo_project(int dtype, ptrdiff_t n, ptrdiff_t width, void *x) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (dtype == FO_F32)
            project_f32(width, (float *)x + i * width);
        else
            project_f64(width, (double *)x + i * width);
}

void fo_cut_shares(const fo_cut *run, void *x) {
    const fo_graph *g = &run->graph;
    memcpy(x, run->z, (size_t)(g->nodes * g->width * fo_item_size[g->dtype]));
    fo_project(g->dtype, g->nodes, g->width, x);
}

/* ---- passes over all edges, in order, in double ---- */

static ptrdiff_t end_of(const fo_graph *g, ptrdiff_t i) {
    return g->index_type == FO_I32 ? (ptrdiff_t)((const int32_t *)g->ends)[i]
                                   : (ptrdiff_t)((const int64_t *)g->ends)[i];
}

typedef struct {
    ptrdiff_t u, v;
    double weight;
} edge;

static edge edge_at(const fo_graph *g, ptrdiff_t e) {
    return (edge){end_of(g, 2 * e), end_of(g, 2 * e + 1), fo_element(g->dtype, g->weights, e)};
}

int fo_graph_check(const fo_graph *g, ptrdiff_t *where) {
    const double most = g->dtype == FO_F32 ? FO_MOST_F32 : FO_MOST_F64;
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        *where = e;
        if (at.u < 0 || at.v < 0 || at.u >= g->nodes || at.v >= g->nodes) return FO_BAD_NODE;
        if (at.u == at.v) return FO_BAD_LOOP;
        if (!(at.weight >= 0 && at.weight <= most)) return FO_BAD_WEIGHT;
    }
    return 0;
}

double fo_graph_variation(const fo_graph *g, const void *x) {
    const ptrdiff_t n = g->width;
    double sum = 0;
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        double distance = 0;
        for (ptrdiff_t k = 0; k < n; k++)
            distance +=
                fabs(fo_element(g->dtype, x, at.u * n + k) - fo_element(g->dtype, x, at.v * n + k));
        sum += at.weight * distance;
    }
    return n > 1 ? sum / 2 : sum;
}

double fo_graph_cut(const fo_graph *g, const int32_t *labels) {
    double sum = 0;
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        if (labels[at.u] != labels[at.v]) sum += at.weight;
    }
    return sum;
}

void fo_graph_degrees(const fo_graph *g, double *of) {
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        of[at.u] += at.weight;
        of[at.v] += at.weight;
    }
}

void fo_graph_sweep(const fo_graph *g, const int32_t *codes, double *change) {
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        change[MIN(codes[at.u], codes[at.v])] += at.weight;
        change[MAX(codes[at.u], codes[at.v])] -= at.weight;
    }
}

void fo_cut_outflow(const fo_cut *run, double *out) {
    const fo_graph *g = &run->graph;
    const ptrdiff_t n = g->width;
    for (ptrdiff_t e = 0; e < g->edges; e++) {
        const edge at = edge_at(g, e);
        for (ptrdiff_t k = 0; k < n; k++) {
            const double flow = fo_element(g->dtype, run->f, e * n + k);
            out[at.u * n + k] += flow;
            out[at.v * n + k] -= flow;
        }
    }
}
