import { useState } from "react";
import { loadApiKey, saveApiKey } from "./backend.js";
import Connection from "./components/Connection.jsx";
import EventLog from "./components/EventLog.jsx";
import Governor from "./components/Governor.jsx";
import KnowledgeBase from "./components/KnowledgeBase.jsx";
import Reasoning from "./components/Reasoning.jsx";
import SystemLoad from "./components/SystemLoad.jsx";
import { useDashboard } from "./useDashboard.js";

export default function App() {
  const [apiKey, setApiKey] = useState(loadApiKey);
  const { state, connect, disconnect, control, refreshGovernor, ask, clearLog } = useDashboard(apiKey);
  const connected = state.connection.state === "connected";

  const chooseKey = (key) => {
    saveApiKey(key);
    setApiKey(key);
  };

  return (
    <>
      <Connection {...state.connection} apiKey={apiKey} onKey={chooseKey} onConnect={connect} onDisconnect={disconnect} />
      <main>
        <div className="column">
          <KnowledgeBase count={state.factCount} latest={state.latestFacts} apiKey={apiKey} />
          <Governor
            governor={state.governor}
            pending={state.pendingAction}
            connected={connected}
            onControl={control}
            onRefresh={refreshGovernor}
          />
        </div>
        <div className="column">
          <SystemLoad load={state.load} traffic={state.traffic} />
          <Reasoning result={state.reasoning} pending={state.pendingQuery} connected={connected} onAsk={ask} />
        </div>
        <EventLog entries={state.log} total={state.logged} onClear={clearLog} />
      </main>
    </>
  );
}
