/* A real identity provider for the tests: panva's certified oidc-provider, with accounts whose claims, and keys, a test sets.
 *
 *   node oidc_provider.mjs PORT REDIRECT_URI POST_LOGOUT_URI
 *
 * Prints its issuer when it listens, ends with its standard input. The login page of its development mode takes any
 * password; the login name is the account. Beside it, for tests alone:
 *   PUT /test/accounts/NAME   claims of an account, as JSON
 *   PUT /test/keys            {"keys": [private JWK, …]}: signs with the first from now on
 */
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [port, redirect, left] = process.argv.slice(2);
const issuer = `http://localhost:${port}`;
const accounts = new Map();
let handler = null;

/* Grants and sessions survive a change of keys, as they do in a provider that rotates. */
class Memory {
  static kept = new Map();
  constructor(kind) { this.kind = kind; }
  key(id) { return `${this.kind}/${id}`; }
  async upsert(id, payload) {
    Memory.kept.set(this.key(id), payload);
    if (payload.uid) { Memory.kept.set(`uid/${payload.uid}`, this.key(id)); }
  }
  async find(id) { return Memory.kept.get(this.key(id)); }
  async findByUid(uid) { return Memory.kept.get(Memory.kept.get(`uid/${uid}`)); }
  async findByUserCode() { return undefined; }
  async consume(id) { Memory.kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { Memory.kept.delete(this.key(id)); }
  async revokeByGrantId(grant) {
    for (const [key, payload] of Memory.kept) { if (payload.grantId === grant) { Memory.kept.delete(key); } }
  }
}

const client = {
  redirect_uris: [redirect],
  post_logout_redirect_uris: [left],
  grant_types: ["authorization_code"],
  response_types: ["code"],
};

function start(jwks) {
  const provider = new Provider(issuer, {
    adapter: Memory,
    jwks,
    clients: [
      { ...client, client_id: "mpcredit", client_secret: "a secret: with/odd+signs & more" },
      { ...client, client_id: "another-application", token_endpoint_auth_method: "none" },
    ],
    claims: { openid: ["sub", "roles", "realm_access"], profile: ["name", "preferred_username"] },
    conformIdTokenClaims: false,
    pkce: { required: () => true, methods: ["S256"] },
    cookies: { keys: ["only for tests"] },
    features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
    ttl: { IdToken: 300, AccessToken: 300, AuthorizationCode: 60, Interaction: 600, Session: 3600, Grant: 3600 },
    async findAccount(_context, id) {
      return { accountId: id, claims: async () => ({ sub: id, ...accounts.get(id) }) };
    },
  });
  handler = provider.callback();
}

async function body(request) {
  const parts = [];
  for await (const part of request) { parts.push(part); }
  return JSON.parse(Buffer.concat(parts).toString());
}

const server = createServer(async (request, response) => {
  if (request.method === "PUT" && request.url.startsWith("/test/")) {
    const name = decodeURIComponent(request.url.split("/").at(-1));
    const value = await body(request);
    if (request.url === "/test/keys") { start(value); } else { accounts.set(name, value); }
    response.writeHead(204).end();
    return;
  }
  if (handler === null) { response.writeHead(503).end(); return; }
  handler(request, response);
});
server.listen(Number(port), "localhost", () => console.log(issuer));
process.stdin.on("end", () => process.exit(0)).resume();
