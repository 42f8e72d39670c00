/* The masking protocol with verified sums, for the model checker Spin. README.md says what is left out.

The coordinator is not a process: it is the scheduler. Every step at the end of this file is one institution's answer
to a message, and any message that the coordinator can make from what it has seen may come at any time, or never.
Cryptography is perfect: nobody makes up signatures, shares, or tags without the group secret.

check.py chooses the numbers below and leaves out at most one rule, which then has to break a property. */

#ifndef N
#define N 3                     /* institutions in the roster */
#define T 2                     /* threshold and quorum */
#define C 0                     /* how many of them are in league with the coordinator: the last ones */
#define E 2                     /* executions, numbered in the order of (round, attempt) */
#endif
#ifndef SECRETS
#define SECRETS 1               /* 2: the coordinator has two honest makers make a group secret each */
#endif
#ifndef FORGE
#define FORGE 0                 /* colluders give the group secret away: 1 for new models, 2 for the first one too */
#endif
#ifndef CHECKED
#define CHECKED 254             /* the properties that are checked, a bit each: 1 (a) to 7 (g) */
#endif
#ifndef RESTARTS
#define RESTARTS 0              /* 1: institutions lose what they have in memory */
#endif
#ifndef GOAL
#define GOAL 0                  /* a good run, which the checker has to find: see accept_sum */
#endif
#ifndef WITHOUT
#define WITHOUT 0               /* the rule that is left out: */
#endif
#define ONE_SET 1               /* one survivor set is signed in an execution, and shares are revealed once */
#define SIGNATURES 2            /* shares are revealed once t institutions have signed the same */
#define TAG 3                   /* a sum is checked by its tag */
#define ONE_STATEMENT 4         /* the last of the v statements that it takes to catch up */
#define UNRESOLVED_RULE 5       /* with a record on its model, an institution signs only the set of the record */
#define RECORD 6                /* there is a record before shares are revealed, */
#define RECORD_ON_DISK 7        /* and it outlives a restart */
#define END 8                   /* a second record on one model ends the session there */
#define LEAVING 9               /* who takes a new model leaves the execution that it is in */
#define OWN_MODEL 10            /* an institution's model is its own, not what the coordinator sends */
#define NEWEST_ONLY 11          /* only the sum of the newest execution that it joined is taken */
#define NEWER_ROUND 12          /* only rounds after the verified one are joined */
#define RECORD_BESIDE_MODEL 13  /* a new model counts only together with the record that it is verified */
#define MODEL_IN_CONTEXT 14
#define COMMITMENT_IN_CONTEXT 15

#define V (2*T - N - (WITHOUT == ONE_STATEMENT))
#define HONEST (N - C)
#define START 1                 /* models: the first, */
#define AFTER(e) ((e) + 2)      /* what the true sum of execution e makes, */
#define JUNK (E + 2)            /* what nobody computed, */
#define FORGED(e) (E + 3 + (e)) /* and what a forged sum of execution e makes */
#define MODELS (2*E + 3)

#define BIT(i) (1 << (i))
#define IN(i, set) (((set) >> (i)) & 1)
#define SIZE(set) (IN(0, set) + IN(1, set) + IN(2, set) + IN(3, set))
#define WITHIN(a, b) (((a) & ~(b)) == 0)
#define CORRUPT (BIT(N) - BIT(HONEST))
#define HOLDS(number, claim) assert(!IN(number, CHECKED) || (claim))

typedef Execution {
    byte model, secret, round;  /* its context */
    byte joined, odd;           /* who advertised and dealt shares, and who of them from another context */
    byte transcript[N];         /* of each institution: U1, to which its masked input is bound; 0: none sent */
    byte survivors[N];          /* of each institution: U2, as it signed it; 0: not yet */
    byte self[N], root[N];      /* of each institution's two secrets: who has revealed its share */
    byte known, under;          /* the survivors whose sum the coordinator has, and the transcript of that */
    bit over                    /* everybody has left it */
};
typedef Institution {
    byte at;                    /* in memory: the execution that it is in, plus one */
    byte last;                  /* on disk, like all below: the newest execution that it joined, plus one */
    byte secret = 2 - SECRETS;  /* whose group secret it is committed to */
    byte model = START;
    byte round;                 /* the round that this model is verified for */
    byte records, set;          /* executions on this model for which it revealed shares, and their survivors */
    byte stated[E + 1]          /* the model that it stated for each round */
};
Execution exec[E];
Institution inst[HONEST];
byte of_round[E + 1];           /* the model that the first honest institution accepted for each round */
byte successor[MODELS];         /* and after each model */

#define ME inst[i]
#define HERE exec[inst[i].at - 1]
#define X exec[e]

inline leave() {                /* what stays of an execution that nobody is in any more is its sum */
    if
    :: ME.at ->
        k = ME.at - 1; ME.at = 0; j = 0;
        do :: j < HONEST && inst[j].at != k + 1 -> j++ :: else -> break od;
        if
        :: j == HONEST ->
            exec[k].over = 1; exec[k].joined = 0; exec[k].odd = 0; exec[k].under = 0; j = 0;
            do
            :: j < N ->
                exec[k].transcript[j] = 0; exec[k].survivors[j] = 0; exec[k].self[j] = 0; exec[k].root[j] = 0; j++
            :: else -> break
            od
        :: else
        fi;
        j = 0; k = 0
    :: else
    fi
}

inline look_at_shares() {       /* what the coordinator has, after a masked input or shares came in */
    j = 0;
    do
    :: j < HONEST ->
        HOLDS(1, SIZE(X.self[j] | CORRUPT) < T || SIZE(X.root[j] | CORRUPT) < T);
        if
        :: IN(j, X.self[j]) ->  /* j has revealed shares */
            HOLDS(2, s == 0 || (s == X.survivors[j] && u == X.transcript[j]));
            s = X.survivors[j]; u = X.transcript[j]
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0;
    do                          /* is the sum over s, of those in u, known? */
    :: j < N && (j >= HONEST || !IN(j, u) || (!IN(j, s) && SIZE(X.root[j] | CORRUPT) >= T) ||
                 (IN(j, s) && SIZE(X.self[j] | CORRUPT) >= T && X.transcript[j] == u)) -> j++
    :: else -> break
    od;
    if
    :: j == N && s && !X.known ->
        X.known = s; X.under = u; j = 0; k = 0;
        printf("the coordinator has the sum of execution %d over set %d\n", e, s);
        HOLDS(6, (X.odd & s) == 0);
        do
        :: j < E ->
            if
            :: exec[j].known && exec[j].model == X.model -> k++; HOLDS(4, exec[j].known == s)
            :: else
            fi;
            j++
        :: else -> break
        od;
        HOLDS(4, k <= 2)
    :: else
    fi;
    s = 0; u = 0; j = 0; k = 0
}

inline accept(new, number) {    /* a model; what depends on it is on disk before anything else is sent */
    if :: WITHOUT != LEAVING -> leave() :: else fi;
    printf("%d accepts model %d for round %d\n", i, new, number);
    HOLDS(3, new < JUNK);
    HOLDS(5, of_round[number] == 0 || of_round[number] == new);
    of_round[number] = new;
    ME.model = new; ME.round = number; ME.records = 0; ME.set = 0
}

inline accept_sum(x, new) {     /* the sum of execution e, which it checked itself; it states that once a round */
    e = x;
    HOLDS(5, successor[X.model] == 0 || successor[X.model] == new);
    successor[X.model] = new;
    accept(new, X.round);
    if :: ME.stated[X.round] == 0 -> ME.stated[X.round] = new :: else fi;
    do :: j < HONEST && inst[j].stated[1] && inst[j].stated[2] -> j++ :: else -> break od;
    assert(GOAL != 1 || j < HONEST);                                        /* two rounds, verified by all */
    assert(GOAL != 2 || ME.round != 2 || ME.stated[1] || !ME.stated[2]);    /* caught up, then took part again */
    assert(GOAL != 3 || e == 0 || !exec[0].known || exec[0].model != X.model);  /* a withheld sum, tried again */
    assert(GOAL != 4 || SIZE(X.known) == N);                                /* a round without one of them */
    j = 0;
    e = 0
}

/* What an institution checks. */
#define NEWER(number) ((number) > (WITHOUT == NEWER_ROUND -> 0 : ME.round))
#define SAME_CONTEXT(x) (NEWER(exec[x].round) && \
    (exec[x].model == ME.model || WITHOUT == MODEL_IN_CONTEXT) && \
    (exec[x].secret == ME.secret || WITHOUT == COMMITMENT_IN_CONTEXT))
#define PREVIOUS(x) exec[x - (x > 0)]
#define NEW_CONTEXT(x, later) ((x == 0 || PREVIOUS(x).round) && PREVIOUS(x).round + later && \
    NEWER(PREVIOUS(x).round + later))
#define GOES_ON (SIZE(ME.records) < 2 || WITHOUT == END)
#define MAY_JOIN(x, later) (!exec[x].over && ME.last <= x && ME.secret && GOES_ON && \
    (x > 0 || i == 0 || IN(i - 1, exec[x].joined)) && /* names are given in the order of joining the first one */ \
    (exec[x].joined -> !later && SAME_CONTEXT(x) : NEW_CONTEXT(x, later)))
#define MAY_MASK(those) (ME.at && IN(i, those) && WITHIN(those, HERE.joined | CORRUPT) && HERE.transcript[i] == 0)
#define RESOLVED(those) (ME.records == 0 || ME.set == those || WITHOUT == UNRESOLVED_RULE || \
    (WITHOUT == ONE_SET && ME.records == BIT(ME.at - 1)))
#define MAY_SIGN(those) (ME.at && IN(i, those) && WITHIN(those, HERE.transcript[i]) && RESOLVED(those) && \
    (HERE.survivors[i] == 0 || WITHOUT == ONE_SET))
#define AGREES(j) (HERE.transcript[j] == HERE.transcript[i] && HERE.survivors[j] == HERE.survivors[i])
#define SIGNED (AGREES(0) + AGREES(1) + AGREES(2) + (N > 3 && AGREES(3 % N)) + C >= T || WITHOUT == SIGNATURES)
#define MAY_REVEAL (ME.at && HERE.survivors[i] && SIGNED && (!IN(i, HERE.self[i]) || WITHOUT == ONE_SET))
#define MAY_CHECK(x) ((ME.last == x + 1 || WITHOUT == NEWEST_ONLY) && \
    (IN(x, ME.records) || (ME.at == x + 1 && exec[x].survivors[i])))
#define TRUE_SUM(x) (exec[x].known && (IN(x, ME.records) -> ME.set == exec[x].known : \
    exec[x].survivors[i] == exec[x].known && exec[x].transcript[i] == exec[x].under))
#define STATED(who, number) inst[(who) % HONEST].stated[number]
#define ALIKE(a, who, number) ((a) < HONEST && STATED(a, number) == STATED(who, number))
#define ENOUGH_STATE(who, number) (who < HONEST && STATED(who, number) && V <= C + ALIKE(0, who, number) + \
    ALIKE(1, who, number) + ALIKE(2, who, number) + ALIKE(3, who, number))

/* The steps. */
#define JOIN(x, later) :: d_step { MAY_JOIN(x, later) -> e = x; join(later) }
inline join(later) {            /* it advertises keys and deals shares, for its own context */
    leave();
    ME.at = e + 1; ME.last = e + 1;
    if
    :: X.joined == 0 -> X.model = ME.model; X.secret = ME.secret; X.round = PREVIOUS(e).round + later
    :: else
    fi;
    X.joined = X.joined | BIT(i);
    if :: X.model != ME.model || X.secret != ME.secret -> X.odd = X.odd | BIT(i) :: else fi;
    printf("%d joins execution %d: round %d, model %d, group secret %d\n", i, e, X.round, ME.model, ME.secret);
    e = 0
}

#define MASK(those) :: d_step { MAY_MASK(those) -> e = ME.at - 1; mask(those) }
inline mask(dealers) {          /* it sends its masked input, for the dealers that it is told of */
    X.transcript[i] = dealers;
    printf("%d sends its masked input in execution %d, dealers set %d\n", i, e, dealers);
    look_at_shares(); e = 0
}

#define SIGN(those) :: d_step { MAY_SIGN(those) -> e = ME.at - 1; sign(those) }
inline sign(those) {            /* it signs the survivors that it is told of */
    X.survivors[i] = those;
    printf("%d signs in execution %d survivors set %d\n", i, e, those);
    e = 0
}

inline record() {               /* what it is going to reveal shares for, on disk */
    if :: WITHOUT != RECORD -> ME.records = ME.records | BIT(e); ME.set = X.survivors[i] :: else fi
}
inline restart() {              /* what it had in memory is gone */
    leave();
    if :: WITHOUT == RECORD_ON_DISK -> ME.records = 0; ME.set = 0 :: else fi;
    printf("%d restarts\n", i)
}
inline reveal() {               /* its shares of one secret of each dealer */
    record();
    j = 0;
    do
    :: j < N ->
        if
        :: IN(j, X.survivors[i]) -> X.self[j] = X.self[j] | BIT(i)
        :: !IN(j, X.survivors[i]) && IN(j, X.transcript[i]) -> X.root[j] = X.root[j] | BIT(i)
        :: else
        fi;
        j++
    :: else -> break
    od;
    printf("%d reveals shares in execution %d for survivors set %d\n", i, e, X.survivors[i]);
    look_at_shares(); e = 0
}

#define CHECK(x) :: d_step { MAY_CHECK(x) && TRUE_SUM(x) -> accept_sum(x, AFTER(x)) } \
    :: d_step { WITHOUT == TAG && MAY_CHECK(x) -> accept_sum(x, JUNK) } \
    :: d_step { FORGE && MAY_CHECK(x) -> accept_sum(x, FORGED(x)) } \
    :: d_step { FORGE == 2 && MAY_CHECK(x) -> accept_sum(x, START) } \
    :: d_step { WITHOUT == RECORD_BESIDE_MODEL && MAY_CHECK(x) && TRUE_SUM(x) -> \
        restart(); ME.model = AFTER(x); ME.records = 0; ME.set = 0 }
#define CATCH_UP(who, number) :: d_step { number > ME.round && ENOUGH_STATE(who, number) -> \
    accept(STATED(who, number), number) }

#if N == 4
#define EACH_SET(STEP) STEP(7) STEP(11) STEP(13) STEP(14) STEP(15)
#else
#define EACH_SET(STEP) STEP(3) STEP(5) STEP(6) STEP(7)
#endif
#if E == 3
#define THIRD(step) step
#else
#define THIRD(step)
#endif
#define EACH_STATEMENT(who) CATCH_UP(who, 1) CATCH_UP(who, 2) THIRD(CATCH_UP(who, 3))

active [HONEST] proctype Honest() {
    byte i = _pid, e, s, u, j, k;
    do
    :: d_step { ME.secret == 0 -> ME.secret = 1 }
    :: d_step { ME.secret == 0 && i > 0 -> ME.secret = 2 }
    JOIN(0, 0) JOIN(0, 1) JOIN(1, 0) JOIN(1, 1) THIRD(JOIN(2, 0)) THIRD(JOIN(2, 1))
    EACH_SET(MASK)
    EACH_SET(SIGN)
    :: d_step { MAY_REVEAL -> e = ME.at - 1; reveal() }
    CHECK(0) CHECK(1) THIRD(CHECK(2))
    EACH_STATEMENT(0) EACH_STATEMENT(1) EACH_STATEMENT(2) EACH_STATEMENT(3)
    :: d_step { C >= V && ME.round < E -> HOLDS(7, 0); accept(JUNK, ME.round + 1) }  /* stated by colluders alone */
    :: d_step { RESTARTS && ME.at -> restart() }
    :: d_step { RESTARTS && MAY_REVEAL -> e = ME.at - 1; record(); restart(); e = 0 }  /* before the shares left */
    :: d_step { WITHOUT == OWN_MODEL && ME.at == 0 && ME.model != START ->
        ME.model = START; ME.records = 0; ME.set = 0; printf("%d is sent the first model again\n", i) }
    od
}
