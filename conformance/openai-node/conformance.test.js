// The official OpenAI client against a running server. The model under test has random weights, so nothing here
// depends on what it says: only on shapes, counts, order and errors.
//
// Environment: BASE_URL (…/v1), API_KEY, MODEL (a name that the server knows).

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, {
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
} from "openai";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
assert.ok(baseURL && apiKey && model, "set BASE_URL, API_KEY and MODEL");

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Given a string, return an integer." }];

// Without an end token the answer has the length that was asked for.
const exactly = (n) => ({ max_tokens: n, ignore_eos: true, temperature: 0, seed: 1 });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("models: list and retrieve", async () => {
  const list = await client.models.list();
  const served = list.data.find((m) => m.id === model);
  assert.ok(served, `${model} is not in ${list.data.map((m) => m.id)}`);
  assert.equal(served.object, "model");
  assert.ok(served.max_model_len > 0);
  for (const { id } of list.data) {
    assert.equal((await client.models.retrieve(id)).id, id); // names with slashes too: the client writes %2F
  }
});

test("chat: a plain answer", async () => {
  const answer = await client.chat.completions.create({ model, messages, ...exactly(12) });
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices.length, 1);
  const [choice] = answer.choices;
  assert.equal(choice.message.role, "assistant");
  assert.ok(["length", "tool_calls"].includes(choice.finish_reason));
  assert.notDeepEqual(choice.message.tool_calls, []);
  assert.notEqual(choice.message.reasoning, "");
  assert.equal(answer.usage.completion_tokens, 12);
  assert.ok(answer.usage.prompt_tokens > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 12);
  assert.ok(answer.usage.prompt_tokens_details.cached_tokens >= 0);
  assert.ok(answer.usage.completion_tokens_details.reasoning_tokens >= 0);
});

test("chat: a stream adds up to the plain answer", async () => {
  const request = { model, messages, reasoning_effort: "none", ...exactly(24) };
  const plain = await client.chat.completions.create(request);
  const chunks = await collect(
    await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } }),
  );
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, 24);
  assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
  let content = "";
  for (const chunk of chunks) {
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.equal(chunk.id, chunks[0].id);
    assert.equal(chunk.usage, null);
    assert.equal(chunk.choices.length, 1);
    content += chunk.choices[0].delta.content ?? "";
  }
  const finishes = chunks.map((c) => c.choices[0].finish_reason);
  assert.deepEqual(finishes.filter((f) => f !== null), [plain.choices[0].finish_reason]);
  assert.ok(finishes.at(-1) !== null);
  assert.equal(content, plain.choices[0].message.content ?? "");
});

test("chat: without include_usage every chunk has a choice", async () => {
  const chunks = await collect(await client.chat.completions.create({ model, messages, stream: true, ...exactly(6) }));
  for (const chunk of chunks) {
    assert.equal(chunk.choices.length, 1);
    assert.ok(chunk.choices[0].delta);
    assert.ok(!("usage" in chunk));
  }
});

test("chat: the client's own accumulator takes the stream", async () => {
  const stream = client.chat.completions.stream({ model, messages, ...exactly(16) });
  const message = await stream.finalMessage();
  assert.equal(message.role, "assistant");
});

test("chat: n and logprobs", async () => {
  const answer = await client.chat.completions.create({
    model, messages, n: 3, reasoning_effort: "none", logprobs: true, top_logprobs: 2, ...exactly(8),
  });
  assert.deepEqual(answer.choices.map((c) => c.index), [0, 1, 2]);
  assert.equal(answer.usage.completion_tokens, 24);
  for (const { logprobs } of answer.choices) {
    for (const entry of logprobs.content) {
      assert.ok(entry.logprob <= 0);
      assert.ok(entry.top_logprobs.length <= 2);
      assert.ok(Array.isArray(entry.bytes));
    }
  }
});

test("completions: echo and logprobs in the legacy form", async () => {
  const prompt = "Given a string";
  const answer = await client.completions.create({ model, prompt, echo: true, logprobs: 2, ...exactly(5) });
  const [choice] = answer.choices;
  assert.match(answer.id, /^cmpl-/);
  assert.ok(choice.text.startsWith(prompt));
  const { tokens, token_logprobs, top_logprobs, text_offset } = choice.logprobs;
  const all = answer.usage.prompt_tokens + 5;
  for (const list of [tokens, token_logprobs, top_logprobs, text_offset]) assert.equal(list.length, all);
  assert.equal(token_logprobs[0], null);
  assert.equal(top_logprobs[0], null);
  assert.equal(text_offset[0], 0);
  for (let i = 1; i < all; i++) {
    assert.ok(text_offset[i] >= text_offset[i - 1]);
    assert.equal(top_logprobs[i][tokens[i]], token_logprobs[i]);
  }
});

test("completions: max_tokens 0 scores the prompt", async () => {
  const answer = await client.completions.create({ model, prompt: "integer", echo: true, logprobs: 0, max_tokens: 0 });
  assert.equal(answer.choices[0].text, "integer");
  assert.equal(answer.choices[0].finish_reason, "length");
  assert.equal(answer.usage.completion_tokens, 0);
});

test("completions: token ids in and out, several prompts", async () => {
  const prompt = [[1, 2, 3], [4, 5]];
  const answer = await client.completions.create({ model, prompt, return_token_ids: true, ...exactly(4) });
  assert.deepEqual(answer.choices.map((c) => c.prompt_token_ids), prompt);
  for (const choice of answer.choices) assert.equal(choice.token_ids.length, 4);
  const [first] = (await client.completions.create({ model, prompt: prompt[0], return_token_ids: true, ...exactly(4) })).choices;
  assert.deepEqual(first.token_ids, answer.choices[0].token_ids);
});

test("completions: a stream adds up to the plain answer", async () => {
  const request = { model, prompt: "return", ...exactly(16) };
  const plain = await client.completions.create(request);
  const chunks = await collect(await client.completions.create({ ...request, stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].text).join(""), plain.choices[0].text);
});

test("completions: a stop string ends the text before it", async () => {
  const request = { model, prompt: "return", ...exactly(16) };
  const { text } = (await client.completions.create(request)).choices[0];
  const [stop] = [...text].slice(4);
  const stopped = (await client.completions.create({ ...request, stop: [stop] })).choices[0];
  assert.equal(stopped.text, text.slice(0, text.indexOf(stop)));
  assert.equal(stopped.finish_reason, "stop");
});

test("errors raise the client's classes", async (t) => {
  const cases = [
    ["an unknown model", NotFoundError, { model: "nobody/none" }, { status: 404, code: "model_not_found", param: "model" }],
    ["no messages", BadRequestError, { messages: [] }, { status: 400, param: "messages" }],
    ["a value out of range", BadRequestError, { temperature: 9 }, { status: 400, param: "temperature" }],
    ["a wrong type", BadRequestError, { max_tokens: "many" }, { status: 400, param: "max_tokens" }],
    ["too long an answer", BadRequestError, { max_tokens: 2 ** 30 }, { status: 400, code: "context_length_exceeded" }],
  ];
  for (const [name, type, change, want] of cases) {
    await t.test(name, async () => {
      const err = await client.chat.completions.create({ model, messages, ...change }).then(assert.fail, (e) => e);
      assert.ok(err instanceof type, `${err.constructor.name}: ${err.message}`);
      for (const [key, value] of Object.entries(want)) assert.equal(err[key], value);
      assert.ok(err.error.message);
    });
  }
  await t.test("a wrong key", async () => {
    const stranger = new OpenAI({ baseURL, apiKey: `not-${apiKey}`, maxRetries: 0 });
    const err = await stranger.models.list().then(assert.fail, (e) => e);
    assert.ok(err instanceof AuthenticationError);
    assert.equal(err.code, "invalid_api_key");
  });
  await t.test("an id outside of the vocabulary", async () => {
    const err = await client.completions.create({ model, prompt: [2 ** 30] }).then(assert.fail, (e) => e);
    assert.ok(err instanceof BadRequestError);
    assert.match(err.message, /1073741824/);
  });
});

test("abort: the stream ends and the server goes on", async () => {
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { model, messages, stream: true, ...exactly(400) },
    { signal: controller.signal },
  );
  let seen = 0;
  await (async () => {
    for await (const _ of stream) if (++seen === 2) controller.abort();
  })().catch((err) => assert.ok(err instanceof APIUserAbortError));
  assert.ok(seen >= 1);
  const answer = await client.chat.completions.create({ model, messages, ...exactly(2) });
  assert.equal(answer.usage.completion_tokens, 2);
});
