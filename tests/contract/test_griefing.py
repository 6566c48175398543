"""G2: how often one party alone can make the `open` of all others fail, and what it costs each of them.

An `open` fails if the roster or the cohort moves after the inquirer computed them. In version 1 any member did that with one
cheap transaction a block, as often as it liked. Now, by one account alone:

account                        links of the roster                                gas of one
member's owner                 rotateKey, once in 24 hours                        ROTATE
                               nameAccount, once in 24 hours                      NAME
                               takeAccount, once after each naming                TAKE
member's service account       none; readiness moves the cohort at the boundary of a period only
supervisor's owner             announcePeriodKey, once in 24 hours                ANNOUNCE
                               suspend and reinstate, without limit               SUSPEND, REINSTATE
supervisor's service account   suspend, once a member until its owner reinstates  SUSPEND
                               endPeriodKey, once a key that an owner announced   END
                               putPeriodKeyInForce, once a key                    IN_FORCE
                               auditOk, once a member, key and period key         AUDIT
                               attest with culprits: as suspend
anyone                         execute and createJointCredit, once for each proposal that members and supervisor agreed to

So one member alone makes at most 4 links in any 24 hours and 3 a day in the long run, each of which costs an inquirer at
most one failed `open`: VICTIM gas for one subject under 2048 bits. The inquirer sends it again in the next block.
"""
