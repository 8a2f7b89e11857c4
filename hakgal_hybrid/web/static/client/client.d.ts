/** Declarations of the part of socket.io-client 4 that this client has. */

type Listener = (...args: any[]) => void;
type EventNames = string | symbol;

/** What a server gives as the reason of a refusal. */
export interface ConnectError extends Error {
  data?: any;
}

/** Why a socket is disconnected. */
export type DisconnectReason =
  | "io server disconnect" | "io client disconnect" | "ping timeout" | "transport close" | "transport error";

/** Told by `gap`: events were lost. */
export interface Gap {
  /** How many; null if that cannot be known. */
  missed: number | null;
  reason: "evicted" | "restarted" | "malformed" | "future" | "slow" | "lapsed" | "lost" | "trimmed" | "cut";
  resume_from: string;
}

export interface SocketOptions {
  auth?: Record<string, any> | ((done: (auth: Record<string, any>) => void) => void);
  ackTimeout?: number;
}

export interface ManagerOptions extends SocketOptions {
  autoConnect?: boolean;
  forceNew?: boolean;
  multiplex?: boolean;
  query?: Record<string, any>;
  /** What the server's URLs begin with; `/socket.io` at its end counts for nothing. By default as this file was loaded. */
  path?: string;
  /** At most one batch of events each so many milliseconds, 0 to 10000. */
  intervalMs?: number;
  extraHeaders?: Record<string, string>;
  withCredentials?: boolean;
  reconnection?: boolean;
  reconnectionAttempts?: number;
  reconnectionDelay?: number;
  reconnectionDelayMax?: number;
  randomizationFactor?: number;
  timeout?: number;
  /** False for a stream of this tab's own. */
  shareStream?: boolean;
  /** For environments without one, such as Node. */
  EventSource?: any;
  /** Options of socket.io-client without a meaning here (`transports`, `upgrade`, …) are accepted and ignored. */
  [ignored: string]: any;
}

declare class Emitter {
  on(event: EventNames, listener: Listener): this;
  once(event: EventNames, listener: Listener): this;
  off(event?: EventNames, listener?: Listener): this;
  addEventListener(event: EventNames, listener: Listener): this;
  removeEventListener(event?: EventNames, listener?: Listener): this;
  removeListener(event?: EventNames, listener?: Listener): this;
  removeAllListeners(event?: EventNames): this;
  listeners(event: EventNames): Listener[];
  hasListeners(event: EventNames): boolean;
}

export declare class Socket<ListenEvents = any, EmitEvents = any> extends Emitter {
  readonly io: Manager;
  readonly nsp: string;
  readonly id: string | undefined;
  readonly connected: boolean;
  readonly disconnected: boolean;
  readonly active: boolean;
  /** True if the server has kept who we are, and nothing was missed. */
  readonly recovered: boolean;
  readonly volatile: this;
  auth: ManagerOptions["auth"];
  sendBuffer: any[];

  on(event: "connect", listener: () => void): this;
  on(event: "connect_error", listener: (error: ConnectError) => void): this;
  on(event: "disconnect", listener: (reason: DisconnectReason, details?: { description?: any }) => void): this;
  on(event: "gap", listener: (gap: Gap) => void): this;
  /** With a backplane: events of other processes come no more, or come again. */
  on(event: "hybrid_status", listener: (status: { live: boolean }) => void): this;
  on(event: EventNames, listener: Listener): this;

  connect(): this;
  open(): this;
  disconnect(): this;
  close(): this;
  send(...args: any[]): this;
  emit(event: EventNames, ...args: any[]): this;
  emitWithAck(event: EventNames, ...args: any[]): Promise<any>;
  timeout(ms: number): this;
  compress(compress: boolean): this;
  onAny(listener: Listener): this;
  prependAny(listener: Listener): this;
  offAny(listener?: Listener): this;
  listenersAny(): Listener[];
  onAnyOutgoing(listener: Listener): this;
  prependAnyOutgoing(listener: Listener): this;
  offAnyOutgoing(listener?: Listener): this;
  listenersAnyOutgoing(): Listener[];
}

export declare class Manager extends Emitter {
  constructor(uri?: string | Partial<ManagerOptions>, options?: Partial<ManagerOptions>);
  readonly opts: Partial<ManagerOptions>;
  /** False while the server gets no events of other processes, because its backplane is away. */
  readonly live: boolean;
  socket(nsp: string, options?: Partial<SocketOptions>): Socket;
  open(done?: (error?: Error) => void): this;
  connect(done?: (error?: Error) => void): this;
  reconnection(): boolean;
  reconnection(value: boolean): this;
  reconnectionAttempts(): number;
  reconnectionAttempts(value: number): this;
  reconnectionDelay(): number;
  reconnectionDelay(value: number): this;
  reconnectionDelayMax(): number;
  reconnectionDelayMax(value: number): this;
  randomizationFactor(): number;
  randomizationFactor(value: number): this;
  timeout(): number;
  timeout(value: number): this;
}

export interface Lookup {
  (options?: Partial<ManagerOptions>): Socket;
  (uri: string, options?: Partial<ManagerOptions>): Socket;
  io: Lookup;
  connect: Lookup;
  Manager: typeof Manager;
  Socket: typeof Socket;
}

export declare const io: Lookup;
export { io as connect };
export default io;
