// Package server is Hearth's HTTP front: the OpenAI-compatible API with the fields that vLLM's users know, as server-sent
// events or as one answer. It checks every request before the engine sees it, turns the engine's tokens into text,
// reasoning and tool calls, and says in OpenAI's error shape what is wrong. It never computes, never picks a device,
// never reads a model's files and never shortens a prompt.
//
// A request moves one way: an object reads and checks the JSON fields (json.go, params.go, chat.go, completion.go); a
// generation runs the engine's requests and merges their events (generation.go); a choice turns events into parts
// (choice_chat.go, choice_text.go); parts are either written as chunks or added up (wire.go). Both kinds of answer are
// the same parts, so a stream and a plain answer cannot differ.
package server
